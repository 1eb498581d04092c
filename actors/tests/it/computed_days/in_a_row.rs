//! Days in a row: who is served on the day, who at the first question, who is left behind.

use actors::base::meter::Meter;
use jiff::civil::Date;

use super::*;

/// Meters and quota are divided by this.
const SCALE: u32 = 5;
/// Days that count, after some on which the server learns who asks for what.
const DAYS: usize = 3;
const DAYS_BEFORE: usize = 2;
/// A tenth of the meters have a day so many hours after the others, each day other ones.
const LATE_EVERY: u64 = 10;
const LATE_BY: i8 = 6;

/// What is computed.
#[derive(Clone, Copy, Debug)]
struct Case {
    meters: u64,
    /// The hour in France at which Enedis has the day before.
    published: i8,
    is_late: bool,
    prefetch: bool,
}

const fn case(meters: u64, published: i8, is_late: bool, prefetch: bool) -> Case {
    Case { meters, published, is_late, prefetch }
}

const CASES: [Case; 13] = [
    case(7_000, 6, false, true),
    case(7_000, 7, false, true),
    case(7_000, 8, false, true),
    case(7_000, 8, false, false),
    case(7_000, 10, false, true),
    case(7_000, 10, false, false),
    case(7_000, 6, true, true),
    case(7_000, 6, true, false),
    case(11_000, 6, false, true),
    case(11_000, 8, false, true),
    case(11_000, 8, false, false),
    case(20_000, 8, false, true),
    case(20_000, 8, false, false),
];

/// What came of it, on the worst of the days.
#[derive(Clone, Copy, Debug)]
struct Row {
    case: Case,
    served: usize,
    at_once: usize,
    one_behind: usize,
    more_behind: usize,
    /// Calls of a meter and day, on average.
    calls: f64,
}

impl Row {
    /// Meters, the hour of publication, whether a tenth is late, whether the server fetches by itself; then who is served by
    /// 22:00, who at the first question, who is a day behind, who more, and calls of a meter and day.
    fn text(&self) -> String {
        let Case { meters, published, is_late, prefetch } = self.case;
        let yes = |is: bool| if is { "yes" } else { "no" };
        let Self { served, at_once, one_behind, more_behind, calls, .. } = self;
        format!(
            "| {meters} | {published:02}:00 | {} | {} | {served} | {at_once} | {one_behind} | {more_behind} | {calls:.2} |",
            yes(is_late),
            yes(prefetch)
        )
    }
}

/// Whether a meter's day is late.
fn is_late(meter: Meter, day: Date) -> bool {
    (meter.modulo(LATE_EVERY) + u64::try_from(day.day()).unwrap()).is_multiple_of(LATE_EVERY)
}

fn compute(case: Case, scale: u32) -> Row {
    let row = RefCell::new(None);
    universe(async |universe| {
        let world = World::new(universe, quota(scale), Some(case.prefetch));
        let late_by = if case.is_late { LATE_BY } else { 0 };
        world.enedis.has(move |meter: Meter, day: Date, now: Timestamp| {
            let local = paris(now);
            let hour = case.published + if is_late(meter, day) { late_by } else { 0 };
            day < plus(local.date(), -1) || local.hour() >= hour
        });
        let boxes = usize::try_from(case.meters).unwrap() / scale as usize;
        let mut missed = vec![0; boxes];
        let (mut days, mut before) = (Vec::new(), 0);
        for day in 0..DAYS_BEFORE + DAYS {
            let midnight = midnight() + HOUR * (24 * u32::try_from(day).unwrap());
            let (_, ended) = world.day(midnight, &missed).await;
            missed = behind(&ended);
            if day < DAYS_BEFORE {
                before = world.enedis.asked_at().len();
            } else {
                days.push(ended);
            }
        }
        let calls = world.enedis.asked_at();
        let of_hour = |hour: u64| calls.iter().filter(|at| (START + **at).hour() == hour).count();
        let hours = START.hour()..=world.clock.now().hour();
        let most = hours.map(of_hour).max().unwrap();
        assert!(most <= quota(scale).per_hour as usize, "{case:?}: {most} calls in an hour");
        let count = |is: fn(&Ended) -> bool| days.iter().map(move |day| day.iter().filter(|e| is(e)).count());
        let full = |count: usize| count * scale as usize;
        row.replace(Some(Row {
            case,
            served: full(count(|ended| ended.behind == 0).min().unwrap()),
            at_once: full(count(|ended| ended.at_once).min().unwrap()),
            one_behind: full(count(|ended| ended.behind == 1).max().unwrap()),
            more_behind: full(count(|ended| ended.behind > 1).max().unwrap()),
            calls: (calls.len() - before) as f64 / (boxes * DAYS) as f64,
        }));
    });
    row.into_inner().unwrap()
}

/// `cargo test --release -p actors --all-features --test it days_in_a_row -- --ignored --nocapture` prints the table.
#[test]
#[ignore = "takes a quarter of an hour; compares the table of docs/metering.md, and fails if the quota is exceeded"]
fn days_in_a_row() {
    let half = |odd: usize| {
        move || {
            let cases = CASES.into_iter().skip(odd).step_by(2);
            let rows = cases.map(|case| compute(case, SCALE).text()).inspect(|row| println!("{row}"));
            rows.filter(|row| !PRINTED.contains(row)).count()
        }
    };
    let halves = [0, 1].map(|odd| std::thread::spawn(half(odd)));
    let differ = halves.map(|half| half.join().unwrap());
    assert_eq!(differ, [0, 0], "docs/metering.md has other days");
}

/// Of fewer meters, so that scouts cost more than they do: where 14 hours cannot hold all, each is served on the next day.
#[test]
fn nobody_goes_without_on_two_days_in_a_row() {
    let row = compute(case(7_000, 8, false, true), 40);
    assert!(row.served >= 6_000 && row.one_behind > 0 && row.more_behind == 0, "{}", row.text());
}
