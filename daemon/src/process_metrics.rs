//! Metrics of the process, under the names that every Prometheus client uses, read from /proc when
//! somebody asks.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, Registry, Result};

/// Counters and gauges of this process.
struct Process {
    cpu_seconds: Counter,
    resident_bytes: Gauge,
    virtual_bytes: Gauge,
    virtual_bytes_max: Gauge,
    start_seconds: Gauge,
    threads: Gauge,
    /// Bytes received, bytes sent.
    network_bytes: [Counter; 2],
    open_files: [Gauge; 2],
    files_max: [Gauge; 2],
    /// Held from reading to the end: two scrapes at once would count the same time twice.
    scrape: Mutex<()>,
}

/// Registers the metrics. Error: one of the names is taken.
pub fn register(registry: &Registry) -> Result<()> {
    registry.register(Box::new(Process::new()?))
}

impl Process {
    fn new() -> Result<Process> {
        let open_files = "Open file descriptors.";
        let files_max = "Most file descriptors that may be open.";
        Ok(Process {
            cpu_seconds: Counter::new("process_cpu_seconds_total", "CPU time used, in seconds.")?,
            resident_bytes: Gauge::new("process_resident_memory_bytes", "Memory in use.")?,
            virtual_bytes: Gauge::new("process_virtual_memory_bytes", "Address space in use.")?,
            virtual_bytes_max: Gauge::new(
                "process_virtual_memory_max_bytes",
                "Most address space that may be in use; -1: no limit.",
            )?,
            network_bytes: [
                Counter::new(
                    "process_network_receive_bytes_total",
                    "Bytes that came in over the network of the process.",
                )?,
                Counter::new(
                    "process_network_transmit_bytes_total",
                    "Bytes that went out over the network of the process.",
                )?,
            ],
            start_seconds: Gauge::new("process_start_time_seconds", "Unix time of the start.")?,
            threads: Gauge::new("process_threads", "Threads of the process.")?,
            open_files: [
                Gauge::new("process_open_fds", open_files)?,
                Gauge::new("os_fd_used", open_files)?,
            ],
            files_max: [
                Gauge::new("process_max_fds", files_max)?,
                Gauge::new("os_fd_limit", files_max)?,
            ],
            scrape: Mutex::default(),
        })
    }

    fn parts(&self) -> impl Iterator<Item = &dyn Collector> {
        let gauges = [
            &self.resident_bytes,
            &self.virtual_bytes,
            &self.virtual_bytes_max,
            &self.start_seconds,
            &self.threads,
        ];
        let files = self.open_files.iter().chain(&self.files_max);
        let gauges = gauges.into_iter().chain(files);
        let gauges = gauges.map(|gauge| gauge as &dyn Collector);
        let counters = std::iter::once(&self.cpu_seconds).chain(&self.network_bytes);
        let counters = counters.map(|counter| counter as &dyn Collector);
        counters.chain(gauges)
    }

    fn read_stat(&self) {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let Some(stat) = Stat::parse(&stat) else {
            return;
        };
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let cpu = stat.cpu_ticks as f64 / ticks;
        self.cpu_seconds
            .inc_by((cpu - self.cpu_seconds.get()).max(0.0));
        self.threads.set(stat.threads as f64);
        self.virtual_bytes.set(stat.virtual_bytes as f64);
        let page = rustix::param::page_size() as f64;
        self.resident_bytes.set(stat.resident_pages as f64 * page);
        let since_boot = Duration::from_secs_f64(stat.start_ticks as f64 / ticks);
        if let Some(boot) = boot_time() {
            self.start_seconds.set((boot + since_boot).as_secs_f64());
        }
    }

    fn read_network(&self) {
        let text = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
        for (counter, bytes) in self.network_bytes.iter().zip(network_bytes(&text)) {
            counter.inc_by((bytes as f64 - counter.get()).max(0.0));
        }
    }

    fn read_files(&self) {
        let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let space = rustix::process::getrlimit(rustix::process::Resource::As);
        let space = space.current.map_or(-1.0, |bytes| bytes as f64);
        self.virtual_bytes_max.set(space);
        for gauge in &self.open_files {
            gauge.set(open as f64);
        }
        for gauge in &self.files_max {
            gauge.set(limit.current.map_or(f64::INFINITY, |files| files as f64));
        }
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.parts().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _alone = self.scrape.lock();
        self.read_stat();
        self.read_network();
        self.read_files();
        self.parts().flat_map(Collector::collect).collect()
    }
}

/// What we read of `/proc/self/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(stat: &str) -> Option<Stat> {
        // The second field is the program's name in parentheses and may hold anything.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Numbers of fields as in proc(5), where the state, our first one, is number 3.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Stat {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// Bytes received and sent by all interfaces in `/proc/self/net/dev`.
fn network_bytes(dev: &str) -> [u64; 2] {
    let interfaces = dev.lines().filter_map(|line| line.split_once(':'));
    let mut sums = [0; 2];
    for (_, numbers) in interfaces {
        let numbers: Vec<&str> = numbers.split_ascii_whitespace().collect();
        for (sum, column) in sums.iter_mut().zip([0, 8]) {
            let bytes = numbers
                .get(column)
                .and_then(|text| text.parse::<u64>().ok());
            *sum += bytes.unwrap_or(0);
        }
    }
    sums
}

/// When the machine started, since the Unix epoch.
fn boot_time() -> Option<Duration> {
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime = uptime.split_ascii_whitespace().next()?.parse().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    now.checked_sub(Duration::from_secs_f64(uptime))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_program_may_hold_spaces_and_parentheses() {
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 20 0 3 0 99 4096 55 66";
        let expected = Stat {
            cpu_ticks: 11 + 12,
            threads: 3,
            start_ticks: 99,
            virtual_bytes: 4096,
            resident_pages: 55,
        };
        assert_eq!(Stat::parse(stat), Some(expected));
        assert_eq!(Stat::parse("7 (a) S 1"), None);
    }

    #[test]
    fn the_bytes_of_all_interfaces_are_added() {
        let dev = concat!(
            "Inter-|   Receive  |  Transmit\n face |bytes packets|bytes packets\n",
            "    lo: 10 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n",
            "  eth0:5 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n",
        );
        assert_eq!(network_bytes(dev), [15, 27]);
        assert_eq!(network_bytes(""), [0, 0]);
    }

    #[test]
    fn who_scrapes_at_once_does_not_count_the_same_time_twice() {
        let process = Process::new().expect("names that are in order");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..200).for_each(|_| drop(process.collect())));
            }
        });
        let counted = process.cpu_seconds.get();
        let stat = fs::read_to_string("/proc/self/stat").expect("a process has one");
        let ticks = Stat::parse(&stat).expect("as proc(5) says").cpu_ticks as f64;
        let used = ticks / rustix::param::clock_ticks_per_second() as f64;
        assert!(counted <= used + 1e-6, "{counted} s of {used} s");
    }

    #[test]
    fn this_process_has_memory_files_and_a_start() {
        let registry = Registry::new();
        register(&registry).expect("an empty registry");
        let families = registry.gather();
        let value = |name: &str| {
            let family = families.iter().find(|family| family.name() == name);
            family.expect(name).get_metric()[0].get_gauge().get_value()
        };
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970");
        let age = now.as_secs_f64() - value("process_start_time_seconds");
        assert!((-5.0..86_400.0).contains(&age), "{age}");
    }
}
