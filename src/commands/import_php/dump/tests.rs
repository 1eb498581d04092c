use proptest::prelude::*;

use super::*;

/// As `pg_dump` 17 writes a whole database.
const COPY: &str = r#"--
-- PostgreSQL database dump
--

\restrict lQ0vbrWJ2wEsQ3a8XqGZ

-- Dumped from database version 17.6 (Debian 17.6-0+deb13u1)
-- Dumped by pg_dump version 17.6 (Debian 17.6-0+deb13u1)

SET statement_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);

CREATE FUNCTION public.note() RETURNS trigger
    LANGUAGE plpgsql
    AS $_$
BEGIN
  -- it's; COPY public.cache (key, value, expire_at) FROM stdin;
  RETURN NEW;
END;
$_$;

CREATE TABLE public.cache (
    key text NOT NULL,
    value text NOT NULL,
    expire_at timestamp without time zone NOT NULL
);

ALTER TABLE public.cache OWNER TO proxy;

COPY public.visitors (id, note) FROM stdin;
1	a line\nINSERT INTO cache VALUES ('refresh_token:no','s:1:"1";','2028-01-01 00:00:00');
\.


COPY public.cache (key, value, expire_at) FROM stdin;
refresh_token:1	s:3:"1,2";	2028-01-01 00:00:00
BCDFGHJK	O:8:"stdClass":1:{s:13:"client_secret";s:5:"a\tb\\c";}	2026-01-01 00:00:00
ratelimit-29000000-ip-192.0.2.1	i:3;	2026-01-01 00:00:00
access_token:2	s:1:"3";	2028-01-01 00:00:00.123
half	a row
\.


ALTER TABLE ONLY public.cache
    ADD CONSTRAINT cache_pkey PRIMARY KEY (key);

\unrestrict lQ0vbrWJ2wEsQ3a8XqGZ
"#;

/// What a client secret that a stranger chose can look like in a dump made with `--inserts`.
const INSERTS: &str = r#"SET standard_conforming_strings = on;
INSERT INTO public.other VALUES (1, 'a '';
INSERT INTO public.cache VALUES (''refresh_token:no'', ''s:1:"1";'', ''2028-01-01 00:00:00'');
');
INSERT INTO public.cache VALUES ('refresh_token:1', 's:3:"1,2";', '2028-01-01 00:00:00');
INSERT INTO public.cache VALUES ('BCDFGHJK', 'O:8:"stdClass":1:{s:13:"client_secret";s:99:"
INSERT INTO public.cache VALUES (''refresh_token:no'', ''s:1:"1";'', ''2028-01-01 00:00:00'');
COPY public.cache FROM stdin;
refresh_token:no	s:1:"1";	2028-01-01 00:00:00
\.
";}', '2026-01-01 00:00:00');
INSERT INTO "public"."cache" (expire_at, "key", value) VALUES
	('2028-01-01 00:00:00', E'access_token\x3a2', 's:1:"3";'),
	('2028-01-01 00:00:00', NULL, 's:1:"3";'),
	('2028-01-01 00:00:00', lower('K'), 's:1:"3";') ON CONFLICT DO NOTHING;
INSERT INTO cache VALUES ('half', 'a row');
INSERT INTO public.cache (id, note) VALUES (1, 'another table of this name');
INSERT INTO public.cached VALUES ('refresh_token:no', 's:1:"1";', '2028-01-01 00:00:00');
"#;

fn keys(rows: impl Iterator<Item = Result<Row, SourceError>>) -> Vec<String> {
    rows.map(|row| match row {
        Ok(Row::Entry(raw)) => {
            let value = raw.value.map_or("-".into(), |value| String::from_utf8(value).unwrap());
            let expiry = if raw.expires_at.is_some() { "" } else { " never" };
            format!("{} {value}{expiry}", String::from_utf8_lossy(&raw.key))
        }
        Ok(Row::NotUnderstood) => "?".to_owned(),
        Err(error) => format!("error: {error}"),
    })
    .collect()
}

fn read(text: &str) -> Vec<String> {
    keys(Dump::new(text.as_bytes()))
}

#[test]
fn copy_of_a_whole_database() {
    let expected =
        ["refresh_token:1 1,2", "BCDFGHJK -", "ratelimit-29000000-ip-192.0.2.1 -", "access_token:2 3", "?"];
    assert_eq!(read(COPY), expected);
    assert_eq!(read(&COPY.replace('\n', "\r\n")), expected);
}

#[test]
fn inserts_and_what_only_looks_like_them() {
    let expected = ["refresh_token:1 1,2", "BCDFGHJK -", "access_token:2 3", " 3", " 3", "?"];
    assert_eq!(read(INSERTS), expected);
}

#[test]
fn rows_by_themselves() {
    let rows = "refresh_token:1\ts:3:\"1,2\";\t2028-01-01 00:00:00\nk\t\\N\tx\n\nhalf\n\\.\n";
    assert_eq!(keys(Dump::bare_rows(rows.as_bytes())), ["refresh_token:1 1,2", "k - never", "?"]);
}

#[test]
fn a_dump_that_is_cut_short_says_so_after_its_rows() {
    let at = COPY.find("ratelimit").unwrap();
    let rows = read(&COPY[..at]);
    assert_eq!(rows[..2], ["refresh_token:1 1,2", "BCDFGHJK -"]);
    assert!(rows[2].starts_with("error: ") && rows.len() == 3, "{rows:?}");
    // Inside the secret.
    let rows = read(&INSERTS[..INSERTS.find("COPY").unwrap()]);
    assert!(
        rows[0] == "refresh_token:1 1,2" && rows[1].starts_with("error: ") && rows.len() == 2,
        "{rows:?}"
    );
}

#[test]
fn a_dump_without_the_table_says_so() {
    for text in
        ["-- nothing", "COPY public.users (key) FROM stdin;\n\\.\n", "COPY cache TO stdout;", "SELECT 1;"]
    {
        let rows: Vec<_> = Dump::new(text.as_bytes()).collect();
        assert!(matches!(rows[..], [Err(SourceError::NoTable)]), "{text}");
    }
    // Empty, but there.
    assert_eq!(read("COPY cache FROM stdin;\n\\.\n"), [""; 0]);
}

#[test]
fn what_is_no_dump_is_refused() {
    for text in [
        "INSERT cache;",
        "INSERT INTO cache VALUES 1;",
        "INSERT INTO cache VALUES ('a';",
        "COPY 'a' FROM stdin;",
    ] {
        let rows: Vec<_> = Dump::new(text.as_bytes()).collect();
        assert!(matches!(rows[..], [Err(SourceError::Malformed { line: 1 })]), "{text}");
    }
}

/// Pieces of dumps, in any order.
fn soup() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "INSERT INTO ",
        "cache",
        " VALUES ",
        "(",
        ")",
        ",",
        ";",
        "'",
        "''",
        "E'",
        "\\",
        "\\.",
        "\n",
        "COPY ",
        " FROM stdin;",
        "\t",
        "$$",
        "$a$",
        "--",
        "/*",
        "*/",
        "\"",
        "key",
        "value",
        "expire_at",
        "s:1:\"1\";",
        ".",
        "ON CONFLICT",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn nothing_panics_and_everything_ends(text in soup(), bytes: Vec<u8>) {
        prop_assert!(Dump::new(text.as_bytes()).count() <= text.len() + 1);
        Dump::new(&bytes[..]).for_each(drop);
        Dump::bare_rows(text.as_bytes()).for_each(drop);
        let copied = format!("COPY cache FROM stdin;\n{text}");
        Dump::new(copied.as_bytes()).for_each(drop);
        let inserted = format!("INSERT INTO cache VALUES ({text}");
        Dump::new(inserted.as_bytes()).for_each(drop);
    }

    #[test]
    fn no_value_becomes_a_row(value in soup()) {
        let quoted = value.replace('\'', "''");
        let text = format!("INSERT INTO cache VALUES ('k', '{quoted}', '2028-01-01');\nINSERT INTO cache VALUES ('l', '', '');");
        prop_assert_eq!(read(&text).len(), 2);
    }
}
