//! A simulated GPU driver, so that nothing above the driver knows that there is no GPU.
//!
//! One daemon per node owns the cards behind a Unix socket: who holds how much of which card, as the kernel says who
//! is at the other end. A stand-in `libnvidia-ml.so.1`, stand-ins for three engines and a hog are its clients. Tests
//! steer it through a second socket that no pod ever sees.
//!
//! - [`config`]: the cards of a node; [`card`]: their names and identities
//! - [`driver`]: what a process asks of the driver, and the client for it
//! - [`control`]: what a test does to the driver, and the client for it
//! - [`script`]: what the library is to answer otherwise; [`library`]: the library as a file
//! - [`journal`]: what happened, as a log that proves things
//! - [`visible`]: what `NVIDIA_VISIBLE_DEVICES` means
//! - [`daemon`]: the driver itself
//! - [`engine`]: the stand-in for FlashVSR; [`realesrgan`], [`seedvr2`]: those for engines that have nothing in common

pub mod card;
pub mod config;
pub mod control;
pub mod daemon;
pub mod driver;
pub mod engine;
pub mod journal;
pub mod library;
pub mod realesrgan;
pub mod script;
pub mod seedvr2;
pub mod visible;
pub mod wire;
