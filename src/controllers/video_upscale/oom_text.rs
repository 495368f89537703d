//! Reads what an engine wrote when memory ran out.
