//! What goes wrong between a worker and its broker, and that the worker comes back from it by itself.

mod absent;
mod buckets;
mod connection;
mod consumers;
mod damage;
mod disk;
mod isolation;
mod limits;
mod log;
mod log_made_anew;
mod log_restored;
mod neighbours;
mod overrun;
mod silent_path;
mod snapshots;
mod stale;
mod standstill;
mod streams;
mod went_back;
