//! Whose fault an out-of-memory end was.
