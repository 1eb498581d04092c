//! The PHP server's PostgreSQL table `cache`: its columns, and one row as an entry.

use actors::base::clock::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

use super::entry::{Raw, Row};
use super::serialize;

/// Name of the table.
pub const NAME: &str = "cache";
/// Its columns, in the order of its `CREATE TABLE`.
const COLUMNS: [&str; 3] = ["key", "value", "expire_at"];

/// Where the columns stand in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns {
    at: [usize; 3],
    width: usize,
}

impl Columns {
    /// In the table's own order.
    pub const OWN: Self = Self { at: [0, 1, 2], width: 3 };

    /// In the order of a header; further columns do no harm. `None` if one is missing.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let names: Vec<&[u8]> = names.into_iter().collect();
        let find = |column: &str| {
            names.iter().position(|name| name.trim_ascii().eq_ignore_ascii_case(column.as_bytes()))
        };
        let [Some(key), Some(value), Some(expiry)] = COLUMNS.map(find) else { return None };
        Some(Self { at: [key, value, expiry], width: names.len() })
    }

    /// A row as an entry, if it has as many fields as there are columns; a field is `None` if it is NULL or no text.
    pub fn entry<'a>(&self, fields: &[Option<&'a [u8]>]) -> Row {
        if fields.len() != self.width {
            return Row::NotUnderstood;
        }
        let field = |at: usize| -> Option<&'a [u8]> { fields.get(at).copied().flatten() };
        let [key, value, expiry] = self.at.map(field);
        Row::Entry(Raw {
            key: key.unwrap_or_default().to_vec(),
            value: value.and_then(serialize::text).map(<[u8]>::to_vec),
            expires_at: expiry.and_then(|text| moment(std::str::from_utf8(text).ok()?)),
        })
    }
}

/// Reads a time as PostgreSQL writes it, `2028-02-29 12:34:56.789`. Without an offset it is taken as UTC, the zone of
/// PHP unless it is configured otherwise.
fn moment(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let at = match text.parse::<jiff::Timestamp>() {
        Ok(at) => at,
        Err(_) => Offset::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok()?,
    };
    // Before 1970 is expired, as is 1970.
    Some(Timestamp::from_millis(u64::try_from(at.as_millisecond()).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_utc_unless_they_say_otherwise() {
        let ms = |text| moment(text).map(Timestamp::as_millis);
        assert_eq!(ms("2028-02-29 12:34:56"), Some(1_835_440_496_000));
        assert_eq!(ms(" 2028-02-29 12:34:56.789012 "), Some(1_835_440_496_789));
        assert_eq!(ms("2028-02-29T12:34:56Z"), ms("2028-02-29 12:34:56"));
        assert_eq!(ms("2028-02-29 14:34:56+02"), ms("2028-02-29 12:34:56"));
        assert_eq!(ms("1969-12-31 23:59:59"), Some(0));
        for wrong in ["", "infinity", "-infinity", "2027-02-29 12:34:56", "1835440496", "29/02/2028 12:34:56"]
        {
            assert_eq!(ms(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn columns_are_found_by_name() {
        let names = |text: &'static str| Columns::named(text.split(',').map(str::as_bytes));
        assert_eq!(names("key,value,expire_at"), Some(Columns::OWN));
        let columns = names("id,EXPIRE_AT, value,key").unwrap();
        let row: [&[u8]; 4] = [b"1", b"2028-02-29 12:34:56", b"s:1:\"v\";", b"k"];
        let Row::Entry(raw) = columns.entry(&row.map(Some)) else { panic!("an entry") };
        assert_eq!((&raw.key[..], raw.value.as_deref()), (&b"k"[..], Some(&b"v"[..])));
        assert!(raw.expires_at.is_some());
        assert!(matches!(columns.entry(&row.map(Some)[..3]), Row::NotUnderstood));
        assert_eq!(names("key,value"), None);
        assert_eq!(names("refresh_token:1,s:1,2028"), None);
    }

    proptest! {
        #[test]
        fn no_time_panics(text in "[-+0-9: .TZa-z]{0,30}", any in ".{0,30}") {
            let _ = (moment(&text), moment(&any));
        }
    }
}
