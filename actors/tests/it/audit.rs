//! The audit record, in front of a log that is away, or that strangers would fill.

use std::time::Duration;

use actors::base::audit::{Act, AuditLog as _, KEPT_FOR, Note, PATIENCE, REFUSALS_PER_HOUR, first_key};
use actors::base::clock::Timestamp;
use actors::base::network::Network;
use futures_util::future::join_all;

use crate::universe::{START, pass, universe};

#[test]
fn a_line_names_nobody_and_says_what_was_done() {
    universe(async |universe| {
        let network = Network::of("203.0.113.7".parse().unwrap());
        let note = Note::of(Act::Granted).about([0xab; 16]).client(Some("box")).from(network).count(2);
        assert!(universe.audit().note(note).await);
        let [line] = &universe.lines.read(first_key(START)).await.unwrap()[..] else { panic!("one line") };
        assert_eq!((line.act.as_str(), line.how.as_str(), line.meters), ("grant", "tokens given", 2));
        assert_eq!(line.subject.as_deref(), Some("abababab"));
        assert_eq!((line.client_id.as_deref(), line.network.as_deref()), (Some("box"), Some("203.0.113.…")));
        assert_eq!(u64::try_from(line.at_ms), Ok(START.as_millis()));
    });
}

#[test]
fn a_log_that_is_away_delays_an_act_a_little_and_misses_no_line() {
    universe(async |universe| {
        let audit = universe.audit();
        universe.lines.set_away(true);
        let notes = [Act::Granted, Act::RevokedByBox].map(|act| audit.note(Note::of(act)));
        assert_eq!(join_all(notes).await, [false, false]);
        assert_eq!(universe.elapsed(), PATIENCE);
        pass(3_600).await;
        assert_eq!(audit.unwritten(), 2);
        universe.lines.set_away(false);
        audit.idle().await;
        assert_eq!(universe.lines.words(), ["grant: tokens given", "revocation: by the box"]);
    });
}

#[test]
fn a_log_that_stays_away_fails_no_act() {
    universe(async |universe| {
        let audit = universe.audit();
        universe.lines.set_away(true);
        let written = join_all((0..6_000).map(|_| audit.note(Note::of(Act::Granted)))).await;
        assert!(!written.contains(&true));
        assert!(audit.unwritten() < 5_000, "bounded");
        universe.lines.set_away(false);
        audit.idle().await;
    });
}

#[test]
fn strangers_do_not_fill_the_record() {
    universe(async |universe| {
        let audit = universe.audit();
        let limit = REFUSALS_PER_HOUR as usize;
        for hour in 1..=2 {
            let refusals = (0..limit + 50).map(|_| audit.note(Note::of(Act::RefusedByOwner)));
            join_all(refusals).await;
            assert!(audit.note(Note::of(Act::Granted)).await, "what is no refusal is taken");
            assert_eq!(universe.lines.words().len(), hour * (limit + 1));
            pass(3_600).await;
        }
    });
}

#[test]
fn a_line_is_kept_for_a_year() {
    universe(async |universe| {
        // And a month more, like all that ends.
        let kept_for = KEPT_FOR + Duration::from_secs(30 * 86_400);
        let old = START.since(Timestamp::EPOCH + kept_for).as_secs() - 1;
        let line = |secs: u64| actors::base::audit::AuditLine {
            key: first_key(Timestamp::from_millis(secs * 1_000)),
            at_ms: i64::try_from(secs * 1_000).unwrap(),
            act: "grant".into(),
            how: secs.to_string(),
            subject: None,
            client_id: None,
            network: None,
            meters: 0,
        };
        universe.lines.append(vec![line(old), line(old + 5)]).await.unwrap();
        let audit = universe.audit();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(universe.lines.words(), [format!("grant: {}", old + 5)]);
        drop(audit);
    });
}
