//! Code that the benchmarks share: it runs the cases in turns, in several launches, and prints a table of the medians.
#![allow(dead_code, reason = "each benchmark uses only a part of it")]
#![allow(
    clippy::disallowed_methods,
    reason = "benchmarks read the clock directly"
)]

pub(crate) mod calls;
pub(crate) mod token;

use std::{
    env,
    process::Command,
    time::{Duration, Instant},
};

pub(crate) type Result<T> = std::result::Result<T, calls::BoxError>;

const LAUNCHES: usize = 11;
const ROUNDS: usize = 51;

/// The cost of one call, as measured by its thread.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) nanos: f64,
    pub(crate) allocations: f64,
}

/// A measured operation.
pub(crate) struct Case {
    name: String,
    /// The name of the case whose cost is subtracted.
    bare: Option<String>,
    /// The name of the case that this one is compared with.
    floor: Option<String>,
    /// The number of calls per round.
    calls: u32,
    run: Box<dyn Fn(u32) -> Cost>,
}

impl Case {
    /// Creates a case. `run` makes the given number of calls.
    pub(crate) fn new(
        name: impl Into<String>,
        calls: u32,
        run: impl Fn(u32) -> Cost + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            bare: None,
            floor: None,
            calls,
            run: Box::new(run),
        }
    }

    pub(crate) fn over(mut self, bare: impl Into<String>) -> Self {
        self.bare = Some(bare.into());
        self
    }

    pub(crate) fn relative_to(mut self, floor: impl Into<String>) -> Self {
        self.floor = Some(floor.into());
        self
    }
}

/// Runs the command line: `[--list | --once CASE CALLS | --launches N]`.
pub(crate) fn bench(cases: &[Case]) -> Result<()> {
    // cargo passes `--bench` to every benchmark.
    let arguments: Vec<String> = env::args().skip(1).filter(|it| it != "--bench").collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => measure(cases, LAUNCHES),
        ["--launches", launches] => measure(cases, launches.parse()?),
        ["--launch"] => {
            launch(cases);
            Ok(())
        }
        ["--list"] => {
            cases.iter().for_each(|case| println!("{}", case.name));
            Ok(())
        }
        ["--once", name, calls] => {
            let case = cases.iter().find(|case| case.name == *name);
            let case = case.ok_or("no such case; `--list` prints their names")?;
            (case.run)(calls.parse()?);
            Ok(())
        }
        _ => Err("usage: [--list | --once CASE CALLS | --launches N]".into()),
    }
}

/// Measures `calls` calls on this thread, after some warm-up calls.
pub(crate) fn time(calls: u32, mut call: impl FnMut()) -> Cost {
    const WARM_UP_CALLS: u32 = 100;
    (0..WARM_UP_CALLS.min(calls)).for_each(|_| call());
    let mut time = Duration::ZERO;
    let counted = allocation_counter::measure(|| {
        let start = Instant::now();
        (0..calls).for_each(|_| call());
        time = start.elapsed();
    });
    Cost {
        nanos: time.as_nanos() as f64 / f64::from(calls),
        allocations: counted.count_total as f64 / f64::from(calls),
    }
}

/// Measures in several launches of this program, and prints a line for each case.
///
/// The addresses of code and stack differ at each launch, and this changes the times of all calls.
fn measure(cases: &[Case], launches: usize) -> Result<()> {
    let launches = (0..launches.max(1))
        .map(|_| launch_once(cases.len()))
        .collect::<Result<Vec<_>>>()?;
    let width = cases.iter().map(|case| case.name.len()).max().unwrap_or(0);
    println!(
        "{:<width$} {:>11} {:>11} {:>8} {:>12} {:>8}",
        "case", "ns/call", "over bare", "x floor", "allocations", "of ours"
    );
    let median_of = |of: &dyn Fn(&[Cost]) -> f64| median(launches.iter().map(|launch| of(launch)));
    let index = |name: &Option<String>| {
        let name = name.as_ref()?;
        cases.iter().position(|case| case.name == *name)
    };
    for (it, case) in cases.iter().enumerate() {
        let own = |costs: &[Cost], it: usize, of: fn(&Cost) -> f64| {
            let bare = index(&cases[it].bare).map_or(0.0, |bare| of(&costs[bare]));
            of(&costs[it]) - bare
        };
        let nanos = |it: usize| median_of(&|costs| own(costs, it, |cost| cost.nanos));
        let is_bare = index(&case.bare) == Some(it);
        let floor = index(&case.floor).filter(|_| !is_bare);
        let ratio = floor.map(|floor| nanos(it) / nanos(floor));
        println!(
            "{:<width$} {:>11.1} {:>11.1} {:>8} {:>12.2} {:>8.2}",
            case.name,
            median_of(&|costs| costs[it].nanos),
            nanos(it),
            ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            median_of(&|costs| costs[it].allocations),
            median_of(&|costs| own(costs, it, |cost| cost.allocations)),
        );
    }
    Ok(())
}

/// Runs this program in another process, which prints a line for each case, and parses its output.
fn launch_once(cases: usize) -> Result<Vec<Cost>> {
    let output = Command::new(env::current_exe()?).arg("--launch").output()?;
    let lines = String::from_utf8(output.stdout)?;
    let costs = lines.lines().map(|line| {
        let (nanos, allocations) = line
            .split_once(' ')
            .ok_or("unexpected output of a launch")?;
        Ok(Cost {
            nanos: nanos.parse()?,
            allocations: allocations.parse()?,
        })
    });
    let costs = costs.collect::<Result<Vec<_>>>()?;
    match costs.len() == cases {
        true => Ok(costs),
        false => {
            let errors = String::from_utf8_lossy(&output.stderr);
            Err(format!("a launch exited with {}: {errors}", output.status).into())
        }
    }
}

fn launch(cases: &[Case]) {
    let mut costs = vec![Vec::new(); cases.len()];
    // Interleaved, so that disturbances of the machine affect all cases equally.
    for _ in 0..ROUNDS {
        for (case, costs) in cases.iter().zip(&mut costs) {
            costs.push((case.run)(case.calls));
        }
    }
    for costs in costs {
        let nanos = median(costs.iter().map(|cost| cost.nanos));
        let allocations = median(costs.iter().map(|cost| cost.allocations));
        println!("{nanos} {allocations}");
    }
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Returns the CPU time of this thread. It does not advance while other threads run on the CPU.
#[cfg(target_os = "linux")]
pub(crate) fn thread_time() -> Duration {
    processor_time(rustix::time::ClockId::ThreadCPUTime)
}

/// Returns the CPU time of all threads of this process.
#[cfg(target_os = "linux")]
pub(crate) fn process_time() -> Duration {
    processor_time(rustix::time::ClockId::ProcessCPUTime)
}

#[cfg(target_os = "linux")]
fn processor_time(clock: rustix::time::ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}
