//! Runs the day both ways and prints the table.

use super::*;

#[test]
fn day_of_7000() {
    let mut with = World::new(Between::Core);
    let mut without = World::new(Between::Nothing);
    with.run();
    without.run();

    println!("hour | served  (sum) calls refused gave up | without: served  (sum) calls throttled gave up");
    let (mut sum, mut sum_without) = (0, 0);
    for hour in 8..22 {
        let (a, b) = (with.lines[hour], without.lines[hour]);
        sum += a.served;
        sum_without += b.served;
        println!(
            "  {hour:02} | {:6} {sum:6} {:5} {:7} {:7} | {:15} {sum_without:6} {:5} {:9} {:7}",
            a.served, a.calls, a.refused, a.gave_up, b.served, b.calls, b.throttled, b.gave_up
        );
    }
    println!(
        " all | {:6}        {:5} {:7} {:7} | {:15}        {:5} {:9} {:7}",
        with.served(),
        with.total(|l| l.calls),
        with.total(|l| l.refused),
        with.total(|l| l.gave_up),
        without.served(),
        without.total(|l| l.calls),
        without.total(|l| l.throttled),
        without.total(|l| l.gave_up)
    );

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
    println!(
        "the day after: {} served; behind by 1 day {}, by 2 days {}",
        with.served(),
        behind(1),
        behind(2)
    );
    assert!(with.lines.iter().all(|line| line.calls <= PER_HOUR && line.throttled == 0));
    assert!(with.served() > 6_300 && behind(2) < BOXES / 100, "{} {}", with.served(), behind(2));
}
