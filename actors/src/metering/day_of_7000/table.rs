//! Runs the day both ways, and compares with the table in `docs/metering.md`.

use super::*;

/// Where operators read it.
const PRINTED: &str = include_str!("../../../../docs/metering.md");

/// The lines of the table as it is printed there.
fn table(with: &World, without: &World) -> Vec<String> {
    let (mut sum, mut sum_without) = (0, 0);
    let mut lines: Vec<String> = (8..22)
        .map(|hour| {
            let (a, b) = (with.lines[hour], without.lines[hour]);
            sum += a.served;
            sum_without += b.served;
            format!(
                "| {hour:02} | {} | {sum} | {} | | {} | {sum_without} | {} | {} |",
                a.served, a.calls, b.served, b.calls, b.throttled
            )
        })
        .collect();
    lines.push(format!(
        "| all | {} | | {} | | {} | | {} | {} |",
        with.served(),
        with.total(|line| line.calls),
        without.served(),
        without.total(|line| line.calls),
        without.total(|line| line.throttled)
    ));
    lines
}

#[test]
fn day_of_7000() {
    let mut with = World::new(Between::Core);
    let mut without = World::new(Between::Nothing);
    with.run();
    without.run();

    let lines = table(&with, &without);
    let differs = lines.iter().any(|line| !PRINTED.contains(line));
    assert!(!differs, "docs/metering.md is of another day; this one is\n{}", lines.join("\n"));
    assert!(with.lines.iter().all(|line| line.calls <= PER_HOUR));
    assert_eq!(with.total(|l| l.throttled), 0);
    // 14 hours of 1000 calls, 2 or 3 calls a box: nearly all of what is possible at all.
    assert!(with.served() > 6_300, "{}", with.served());
    assert!(with.served() > without.served() * 5 / 4, "{}", without.served());
    // No box was served at more cost than it must.
    let needed: usize =
        (0..BOXES).filter(|n| with.boxes[*n].served).map(|n| if has_panels(n) { 3 } else { 2 }).sum();
    assert!(with.total(|l| l.calls) as usize <= needed + 1_500, "half done cycles carry on from the cache");

    // The same day asked again costs nothing.
    let before = with.total(|l| l.calls);
    let served: Vec<usize> = (0..BOXES).filter(|n| with.boxes[*n].served).collect();
    for n in served {
        for step in 0..STEPS.len() {
            with.boxes[n].step = step;
            with.ask(n);
            with.events.clear();
        }
        with.boxes[n].served = true;
    }
    assert_eq!(with.total(|l| l.calls), before);

    // Who was left behind asks for two days on the next one, at the price of one: nobody loses a value.
    with.morning(plus(DAY, 1));
    with.run();
    let behind = |days| with.boxes.iter().filter(|p| days_between(p.missing, plus(DAY, 1)) == days).count();
    let after = format!("On the next day {} boxes are a day behind and {} two days;", behind(1), behind(2));
    assert!(PRINTED.contains(&after), "docs/metering.md is of another day; after this one: {after}");
    assert!(with.lines.iter().all(|line| line.calls <= PER_HOUR && line.throttled == 0));
    assert!(with.served() > 6_300 && behind(2) < BOXES / 100, "{} {}", with.served(), behind(2));
}
