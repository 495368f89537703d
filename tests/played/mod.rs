//! What tests share that play nodes, agents and kubelets on a real API server.

pub mod cluster;
pub mod containers;
pub mod controller;
pub mod way;
