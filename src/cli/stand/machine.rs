use serde::Serialize;
use serde_json::{Value, json};

/// The machine that figures are of.
#[derive(Clone, Debug, Serialize)]
pub(in crate::cli) struct Machine {
    pub(in crate::cli) processor: String,
    pub(in crate::cli) cores: usize,
    pub(in crate::cli) memory_bytes: u64,
    pub(in crate::cli) system: String,
}

impl Machine {
    /// This one, as far as it tells.
    pub(in crate::cli) fn this() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let after = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
            line.split_once(':').map_or("", |(_, value)| value).trim().to_owned()
        };
        let memory = after(&read("/proc/meminfo"), "MemTotal");
        let kilobytes = memory.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        let kernel = read("/proc/sys/kernel/osrelease");
        Self {
            processor: after(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            memory_bytes: kilobytes * 1_024,
            system: format!("{} {}", std::env::consts::OS, kernel.trim()),
        }
    }

    pub(in crate::cli) fn json(&self) -> Value {
        json!({
            "processor": self.processor,
            "cores": self.cores,
            "memory_bytes": self.memory_bytes,
            "system": self.system,
        })
    }

    /// In one line.
    pub(in crate::cli) fn told(&self) -> String {
        let gigabytes = self.memory_bytes >> 30;
        format!("{}, {} cores, {gigabytes} GiB, {}", self.processor, self.cores, self.system)
    }
}
