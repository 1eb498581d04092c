//! Programs that others wrote or may write: the examples of docs/data.md as they stand there, and the parser of a published
//! package, which reads contracts.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use testkit::person::{Choice, Person};

use super::{Linked, METER, link, more, world, yesterday};
use crate::fixture::{CLIENT, Store, World};

const PAGE: &str = include_str!("../../../docs/data.md");

/// The examples of a language.
fn examples(language: &str) -> Vec<&'static str> {
    let blocks = PAGE.split("```").skip(1).step_by(2);
    blocks.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n')).collect()
}

fn command(world: &World, program: &str) -> Command {
    let mut command = Command::new(program);
    let end = world.enedis.today();
    command.envs([
        ("SERVER", world.server.base_url().to_owned()),
        ("CLIENT", CLIENT.to_owned()),
        ("METER", METER.to_owned()),
        ("START", end.plus(-3).to_string()),
        ("END", end.to_string()),
    ]);
    command
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_for_developers_says_what_works() {
    let world = world(Store::Sqlite, 2).await;
    let Linked { tokens, .. } = link(&world).await;
    more::put_new(&world);
    let device = world.device().await;
    let mut told = Vec::new();
    for example in examples("sh") {
        let run = command(&world, "sh")
            .args(["-euc", example])
            .env("DEVICE_CODE", &device.code().device_code)
            .env("TOKEN", &tokens.access)
            .env("REFRESH", &tokens.refresh)
            .output();
        told.push(text(&run.unwrap()));
    }
    let words = [
        "verification_uri_complete",
        "authorization_pending",
        "\"access_token\"",
        "\"interval_reading\":[{",
        "usage_point_id,date,value,unit",
        "\"interval_reading\":[",
        "HC (22H30-6H30)",
    ];
    assert_eq!(told.len(), words.len());
    for (told, word) in told.iter().zip(words) {
        assert!(told.contains(word), "{word}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_in_python_links_and_reads() {
    let world = world(Store::Sqlite, 2).await;
    let program = examples("python").concat();
    let run = || {
        let mut command = command(&world, "python3");
        command.args(["-c", &program]).env("KEPT", world.builder.cwd_path().join("kept.json"));
        command
    };
    let mut first = run().stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(first.stdout.take().unwrap()).lines();
    let opened = lines.next().unwrap().unwrap();
    let page = Person::new().link(opened.strip_prefix("Open ").unwrap(), Choice::Allow).await.unwrap();
    assert_eq!(page.status, 200, "{}", page.html);
    let table: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(first.wait().unwrap().success());
    assert!(table[0].starts_with("usage_point_id,date,value"), "{table:?}");
    assert!(table.iter().any(|line| line.contains(&yesterday(&world.enedis).to_string())), "{table:?}");
    let again = text(&run().output().unwrap());
    assert!(again.lines().eq(table.iter().map(String::as_str)), "linked already: {again}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_published_client_reads_contracts() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packages = root.join(".tools/python");
    assert!(packages.is_dir(), "no {}: run tests/run, which fetches it", packages.display());
    let world = world(Store::Sqlite, 2).await;
    let linked = link(&world).await;
    more::put_new(&world);
    let mut read = command(&world, "python3");
    read.arg(root.join("tests/python/contract.py")).arg(packages).env("TOKEN", &linked.tokens.access);
    let read: Value = serde_json::from_str(&text(&read.output().unwrap())).unwrap();
    assert_eq!(read["contract"]["subscribed_power"], "9 kVA");
    assert_eq!(read["has_offpeak"], true);
}
