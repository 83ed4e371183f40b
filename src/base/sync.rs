//! What `single_flight` waits and locks with. The model checks compile the same code with primitives of their own.

pub(crate) use std::sync::{Mutex, MutexGuard, OnceLock};

pub(crate) use tokio::sync::Notify;
