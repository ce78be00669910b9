//! What goes wrong between a worker and its broker, and that the worker comes back from it by itself.

mod buckets;
mod connection;
mod log;
mod neighbours;
