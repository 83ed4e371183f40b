//! A package needs a target; the benchmarks lie one folder up.
