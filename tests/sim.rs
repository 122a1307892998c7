//! A hundred thousand devices and one CA with Let's Encrypt's limits: what it sees after it was away for a day, after it has
//! revoked everything, and when power comes back to all. Writes target/sim.svg; fails where a peak is over three times the
//! mean, or a certificate was lost. A word after `--` is another number of devices.
#![allow(clippy::disallowed_methods, reason = "it is a program of its own")]

mod fleet;

use edgemd::words::time::Span;
use fleet::{Event, run};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let devices = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(100_000);
    println!("{devices} devices, half of them with certificates of 90 days, half of 160 hours");
    println!(
        "{:<12} {:>9} {:>9} {:>9} {:>9} {:>6} {:>8}",
        "", "made up", "in hours", "mean/s", "peak/s", "ratio", "refused"
    );
    let mut records = vec![];
    let mut good = true;
    for event in Event::MASS {
        let record = run(event, devices, Span::mins(1));
        let (mean, peak) = record.mean_and_peak();
        println!(
            "{:<12} {:>9} {:>9.1} {mean:>9.1} {peak:>9.1} {:>6.2} {:>8}",
            format!("{event:?}"),
            record.held_up,
            record.made_up.since(record.until).as_secs() as f64 / 3600.0,
            peak / mean,
            record.refused
        );
        if record.lost + record.expired > 0 {
            println!("  {} lost, {} expired", record.lost, record.expired);
        }
        good &= peak <= 3.0 * mean && record.lost + record.expired == 0;
        records.push(record);
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("sim.svg");
    std::fs::write(&path, fleet::chart::svg(&records)).expect("target/ can be written");
    println!("{}", path.display());
    ExitCode::from(u8::from(!good))
}
