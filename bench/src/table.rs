//! The rows of a comparison as a table and as a bar chart.

use crate::cases::CASES;
use crate::compare::Row;

/// Prints the table, the fastest of each case first.
pub fn print(rows: &[Row]) {
    for (at, case) in CASES.iter().enumerate() {
        let mut rows: Vec<&Row> = rows.iter().filter(|row| row.case == at).collect();
        rows.sort_by(|a, b| a.min_ms.total_cmp(&b.min_ms));
        let Some(best) = rows.first() else { continue };
        println!("\n{}, one thread", case.name());
        println!(
            "{:<12} {:<13} {:>8} {:>10} {:>6} {:>8} {:>8} {:>9} {:>10}",
            "engine",
            "weights",
            "min ms",
            "median ms",
            "times",
            "RSS MB",
            "file MB",
            "rel. RMS",
            "of logits"
        );
        for row in &rows {
            println!(
                "{:<12} {:<13} {:>8.3} {:>10.3} {:>6.2} {:>8.1} {:>8.2} {:>9.1e} {:>10.1e}",
                row.engine,
                row.variant,
                row.min_ms,
                row.median_ms,
                row.min_ms / best.min_ms,
                row.rss_kb / 1e3,
                row.file_bytes as f64 / 1e6,
                row.rel_rms,
                row.logits_rel_rms
            );
        }
    }
}

/// The fastest runs as bars, a group a case, as an SVG picture.
pub fn chart(rows: &[Row]) -> String {
    const LINE: f64 = 18.0;
    const LEFT: f64 = 190.0;
    const WIDTH: f64 = 520.0;
    let text = |x: f64, y: f64, colour: &str, s: &str| {
        format!(
            "<text x='{x:.1}' y='{y:.1}' fill='{colour}' font-size='13' font-family='sans-serif'>{s}</text>"
        )
    };
    let mut y = 24.0;
    let mut body = String::new();
    for (at, case) in CASES.iter().enumerate() {
        let mut rows: Vec<&Row> = rows.iter().filter(|row| row.case == at).collect();
        rows.sort_by(|a, b| a.min_ms.total_cmp(&b.min_ms));
        let Some(most) = rows.last() else { continue };
        let title = format!("{}: milliseconds, the fastest run, one thread", case.name());
        body += &text(10.0, y, "#444", &title);
        y += 8.0;
        for row in &rows {
            let width = WIDTH * row.min_ms / most.min_ms;
            let colour = match (row.engine, row.variant) {
                ("viseme", _) => "#1565c0",
                (_, "f32") => "#bbb",
                _ => "#888",
            };
            let name = format!("{} {}", row.engine, row.variant);
            body += &text(10.0, y + 13.0, "#444", &name);
            body += &format!(
                "<rect x='{LEFT}' y='{:.1}' width='{width:.1}' height='{:.1}' fill='{colour}'/>",
                y + 2.0,
                LINE - 4.0
            );
            let value = format!("{:.2}", row.min_ms);
            body += &text(LEFT + width + 6.0, y + 13.0, "#444", &value);
            y += LINE;
        }
        y += 30.0;
    }
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 800 {y:.0}' width='800' height='{y:.0}'><rect width='800' height='{y:.0}' fill='white'/>{body}</svg>\n"
    )
}
