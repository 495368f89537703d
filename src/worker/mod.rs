//! The video work inside the pods: probe, prepare, finish, merge. It knows no Kubernetes; ffmpeg does the pictures.
//!
//! * [`probe`] — one decode: [`index`] every picture, or those of the [`range`] asked for, by time and hash; refuse or
//!   [`plan`] it.
//! * [`prepare`] — prove the [`gpu`]; [`cut`] a segment exactly, in RGB, padded, for the engine.
//! * [`finish`] — check the engine's output against what it read; encode the owned pictures as a part.
//! * [`merge`] — join the [`parts`], add all other streams, verify, publish.
//!
//! Promises: every picture of the source appears exactly once, in order, at its own time; nothing appears under a final
//! name before it is whole; every end has a word of the contract and numbers; memory does not grow with the film but
//! for the index.

pub mod colour;
pub mod compare;
pub mod cut;
pub mod deinterlace;
pub mod destination;
pub mod encoders;
pub mod expression;
pub mod failure;
pub mod ffmpeg;
pub mod finish;
pub mod fit;
pub mod folder;
pub mod gpu;
pub mod index;
pub mod keyed;
pub mod lines;
pub mod media;
pub mod merge;
pub mod parts;
pub mod plan;
pub mod prepare;
pub mod probe;
pub mod publish;
pub mod range;
pub mod ratio;
pub mod refusals;
pub mod run;
pub mod space;
pub mod sweep;
pub mod turn;
