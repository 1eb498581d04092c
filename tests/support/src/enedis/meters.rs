//! Owns the meters: the test clients of Enedis' sandbox, generated fleets, and who of them sits in front of the
//! consent page.

use crate::calendar::Day;

/// First digits of a generated usage point; no sandbox client begins like that.
const GENERATED_PREFIX: &str = "3700";

/// Which holder of which meters sits in front of the consent page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meters {
    /// Always this test client, 0 to 9, whatever `state` says, as in production.
    Client(u8),
    /// As in Enedis' sandbox: the last character of `state` picks the test client if it is a digit, otherwise it
    /// is client 0. A random `state` that may end in a digit picks a client by chance.
    ByState,
    /// One holder per meter: `state` picks meter 12 if it ends in `m12`; otherwise each consent page shows the next
    /// meter, and the first again after the last. A page suffix (`/device?code=…&state=m12`) reaches `state`.
    Generated(GeneratedMeters),
}

/// A fleet of meters, one holder each, in service since 2015.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneratedMeters {
    /// How many there are; at least 1.
    pub count: u32,
    /// Every so-many-th meter also produces (self-consumption); 0: none does.
    pub producer_every: u32,
}

impl GeneratedMeters {
    /// `count` meters that only consume.
    pub const fn consumers(count: u32) -> Self {
        Self { count, producer_every: 0 }
    }

    /// The usage point of meter `index`, which counts from 0.
    pub fn point(index: u32) -> String {
        format!("{GENERATED_PREFIX}{index:010}")
    }

    /// Tells whether meter `index` also produces.
    pub const fn produces(self, index: u32) -> bool {
        self.producer_every > 0 && (index + 1).is_multiple_of(self.producer_every)
    }
}

/// Who answers the consent page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    Client(u8),
    Meter(u32),
}

impl Holder {
    /// Usage points joined by `;`; `None`: the holder always refuses.
    pub(super) fn points(self) -> Option<String> {
        match self {
            Self::Client(client) => usage_points(client).map(ToOwned::to_owned),
            Self::Meter(index) => Some(GeneratedMeters::point(index)),
        }
    }

    pub(super) fn revokes(self) -> bool {
        matches!(self, Self::Client(client) if revokes(client))
    }
}

impl Meters {
    /// Who answers the consent page for this `state`; `next` is the meter whose turn it is, and moves on when used.
    pub(super) fn holder(self, state: &str, next: &mut u32) -> Holder {
        match self {
            Self::Client(client) => Holder::Client(client % 10),
            Self::ByState => Holder::Client(
                state.bytes().last().filter(u8::is_ascii_digit).map_or(0, |digit| digit - b'0'),
            ),
            Self::Generated(fleet) => {
                let named = state.rsplit_once('m').and_then(|(_, digits)| digits.parse::<u32>().ok());
                let index = named.unwrap_or_else(|| {
                    *next += 1;
                    *next - 1
                });
                Holder::Meter(index % fleet.count.max(1))
            }
        }
    }

    /// What is behind `point`; `None`: no meter of any holder here.
    pub(super) fn profile(self, point: &str) -> Option<Profile> {
        let holds =
            |client: &u8| usage_points(*client).is_some_and(|held| held.split(';').any(|each| each == point));
        if let Some(client) = (0..9).find(holds) {
            return Some(Profile::of_client(client, point));
        }
        let Self::Generated(fleet) = self else { return None };
        let digits = point.strip_prefix(GENERATED_PREFIX).filter(|rest| rest.len() == 10)?;
        let index = digits.parse().ok().filter(|index| *index < fleet.count)?;
        Some(Profile { production: fleet.produces(index), ..Profile::CONSUMER })
    }
}

/// What a meter measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "properties that hold independently")]
pub(super) struct Profile {
    pub(super) consumption: bool,
    pub(super) production: bool,
    /// The holder has load curves recorded.
    pub(super) curve: bool,
    /// Nothing is measured on Tuesdays and Wednesdays.
    holes: bool,
    /// In service since; `YYYY-MM-DD`.
    in_service: &'static str,
}

impl Profile {
    const CONSUMER: Self =
        Self { consumption: true, production: false, curve: true, holes: false, in_service: "2015-01-01" };

    fn of_client(client: u8, point: &str) -> Self {
        let producer = Self { consumption: false, production: true, ..Self::CONSUMER };
        match client {
            1 => Self { in_service: "2019-08-27", ..Self::CONSUMER },
            2 => Self { curve: false, ..Self::CONSUMER },
            3 if point == "10284856584123" => producer,
            4 => Self { holes: true, ..Self::CONSUMER },
            5 => producer,
            6 => Self { production: true, ..Self::CONSUMER },
            _ => Self::CONSUMER,
        }
    }

    pub(super) fn in_service(&self) -> Day {
        Day::parse(self.in_service).expect("a day")
    }

    /// Tells whether anything was measured on `day`.
    pub(super) fn measured(&self, day: Day) -> bool {
        !(self.holes && matches!(day.weekday(), 1 | 2))
    }
}

/// The usage points of test client `client`, 14 digits each, joined by `;`. `None`: client 9, who always refuses.
///
/// 0 consumption, full history · 1 in service since 27 Aug 2019 · 2 no load curve · 3 consumption and production
/// on two points · 4 holes on Tuesdays and Wednesdays · 5 production only · 6 self-consumption · 7 three points ·
/// 8 consents, then revokes ([`revokes`]).
pub fn usage_points(client: u8) -> Option<&'static str> {
    Some(match client % 10 {
        0 => "22516914714270",
        1 => "11453290002823",
        2 => "32320647321714",
        3 => "12345678901234;10284856584123",
        4 => "42900589957123",
        5 => "24880057139941",
        6 => "12655648759651",
        7 => "64975835695673;63695879465986;22315546958763",
        8 => "26584978546985",
        _ => return None,
    })
}

/// Tells whether test client `client` takes the consent back right after giving it, so that a refresh fails, and
/// data is refused.
pub fn revokes(client: u8) -> bool {
    client % 10 == 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_picks_the_holder() {
        let client = |meters: Meters, state| meters.holder(state, &mut 0);
        let picked = ["abc7", "7abc", ""].map(|state| client(Meters::ByState, state));
        assert_eq!(picked, [7, 0, 0].map(Holder::Client));
        assert_eq!(client(Meters::Client(3), "abc7"), Holder::Client(3));
        let meters = Meters::Generated(GeneratedMeters { count: 3, producer_every: 3 });
        let mut next = 0;
        let mut holder = |state| meters.holder(state, &mut next);
        assert_eq!(["ab", "ab1", "ab2", "ab"].map(&mut holder), [0, 1, 2, 0].map(Holder::Meter));
        assert_eq!([holder("abm2"), holder("abm12"), holder("ab")], [2, 0, 1].map(Holder::Meter));
        assert_eq!(meters.profile(&GeneratedMeters::point(0)), Some(Profile::CONSUMER));
        assert!(meters.profile(&GeneratedMeters::point(2)).is_some_and(|profile| profile.production));
        assert_eq!(meters.profile(&GeneratedMeters::point(3)), None);
    }
}
