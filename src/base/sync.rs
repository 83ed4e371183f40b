//! What single flights and published tokens wait, lock and synchronize with. The model checks compile the same code with primitives of
//! their own.

pub(crate) use std::{
    sync::{Mutex, MutexGuard, OnceLock, atomic::AtomicU64},
    thread_local,
};

pub(crate) use arc_swap::{ArcSwapOption, Guard};
pub(crate) use tokio::sync::Notify;
