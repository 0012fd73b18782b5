//! What processes cost, as the kernel counts it.

use std::fs;

use anyhow::{Context as _, Result};

/// Processor time used so far, in seconds, of all threads. The kernel charges the receiving half of a send over loopback to
/// the sender, so this is the whole cost of a delivery.
pub(crate) fn processor_seconds(pids: &[u32]) -> Result<f64> {
    let mut ticks = 0;
    for pid in pids {
        let stat = read(*pid, "stat")?;
        // The name in parentheses may contain anything.
        let fields = stat.rsplit_once(") ").context("a name in stat")?.1;
        // utime and stime are the 14th and the 15th field of all.
        for field in fields.split(' ').skip(11).take(2) {
            ticks += field.parse::<u64>().context("ticks in stat")?;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a few digits are enough")]
    let seconds = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    Ok(seconds)
}

/// Memory of their own, in bytes: what they allocated, and what they share among themselves.
pub(crate) fn memory(pids: &[u32]) -> Result<u64> {
    let mut total = 0;
    for pid in pids {
        let status = read(*pid, "status")?;
        total += field(&status, "RssAnon:") + field(&status, "RssShmem:");
    }
    Ok(total)
}

/// The most resident memory since [`forget_peak`], in bytes.
pub(crate) fn peak(pid: u32) -> Result<u64> {
    Ok(field(&read(pid, "status")?, "VmHWM:"))
}

/// Resident memory, in bytes.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    Ok(field(&read(pid, "status")?, "VmRSS:"))
}

/// Starts the peak anew.
pub(crate) fn forget_peak(pid: u32) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("reset the peak of memory")
}

/// The processes that `pid` has started.
pub(crate) fn children(pid: u32) -> Result<Vec<u32>> {
    let list = read(pid, &format!("task/{pid}/children"))?;
    list.split_whitespace()
        .map(|child| child.parse().context("a process id"))
        .collect()
}

fn read(pid: u32, file: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).with_context(|| format!("read {path}; has the process ended?"))
}

/// A value in kB as bytes; 0 where there is none.
fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kilobytes.map_or(0, |text| text.parse().unwrap_or(0) * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fields_of_a_status() {
        let status = "Name:\tx\nVmHWM:\t    1234 kB\nRssAnon:\t 8 kB\n";
        assert_eq!(field(status, "VmHWM:"), 1234 * 1024);
        assert_eq!(field(status, "RssAnon:"), 8192);
        assert_eq!(field(status, "RssShmem:"), 0);
    }

    #[test]
    fn tells_what_this_process_costs() {
        let own = [std::process::id()];
        assert!(memory(&own).unwrap() > 100_000);
        assert!(processor_seconds(&own).unwrap() >= 0.0);
    }
}
