//! A picture of what the CA saw: one panel for each event, requests per second over hours.

use super::{BEGIN, Record};
use std::fmt::Write;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 220.0;
const MARGIN: f64 = 60.0;

pub fn svg(records: &[Record]) -> String {
    let (width, height) = (WIDTH + 2.0 * MARGIN, (HEIGHT + 2.0 * MARGIN) * records.len() as f64);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (row, record) in records.iter().enumerate() {
        let top = (HEIGHT + 2.0 * MARGIN) * row as f64 + MARGIN;
        let _ = writeln!(out, "<g transform=\"translate({MARGIN} {top})\">");
        panel(&mut out, record);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

fn panel(out: &mut String, record: &Record) {
    let secs = record.span.as_secs() as f64;
    let rates: Vec<f64> = record.requests.iter().map(|count| f64::from(*count) / secs).collect();
    let (mean, peak) = record.mean_and_peak();
    let top = rates.iter().copied().fold(3.0 * mean, f64::max) * 1.05;
    let all = rates.len() as f64 * secs;
    let x = |secs: f64| secs / all * WIDTH;
    let y = |rate: f64| HEIGHT - rate / top * HEIGHT;
    let moment = |at: edgemd::words::time::Unix| x(at.since(BEGIN).as_secs() as f64);
    let (from, until, made_up) = (moment(record.from), moment(record.until), moment(record.made_up));
    let _ = writeln!(
        out,
        "<text y=\"-24\" font-size=\"16\">{:?}: {} made up for; mean {mean:.1}/s, peak {peak:.1}/s</text>\n\
         <rect x=\"{from:.1}\" width=\"{:.1}\" height=\"{HEIGHT}\" fill=\"#fbd0cc\"/>\n\
         <rect x=\"{until:.1}\" width=\"{:.1}\" height=\"{HEIGHT}\" fill=\"#dcecd8\"/>",
        record.event,
        record.held_up,
        (until - from).max(1.5),
        made_up - until
    );
    let mut line = String::new();
    for (place, rate) in rates.iter().enumerate() {
        let _ = write!(line, "{:.1},{:.1} ", x(place as f64 * secs), y(*rate));
    }
    let _ = writeln!(out, "<polyline points=\"{line}\" fill=\"none\" stroke=\"#20507a\"/>");
    for (rate, what) in [(mean, "mean"), (3.0 * mean, "3 × mean")] {
        let at = y(rate);
        let _ = writeln!(
            out,
            "<path d=\"M0 {at:.1}H{WIDTH}\" stroke=\"#888\" stroke-dasharray=\"4 4\"/>\
             <text x=\"{WIDTH}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\">{what}</text>",
            at - 4.0
        );
    }
    let _ = writeln!(out, "<path d=\"M0 0V{HEIGHT}H{WIDTH}\" fill=\"none\" stroke=\"black\"/>");
    let _ = writeln!(out, "<text x=\"-6\" y=\"10\" text-anchor=\"end\">{top:.0}/s</text>");
    for day in 0..=(all / 86_400.0) as u32 {
        let at = x(f64::from(day) * 86_400.0);
        let _ = writeln!(out, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{day} d</text>", HEIGHT + 18.0);
    }
}
