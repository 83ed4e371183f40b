//! Empty, because a package needs a library or binary target. The benchmarks are in the parent folder.
