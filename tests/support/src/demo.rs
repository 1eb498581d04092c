//! The demonstration: the real proxy on SQLite, the simulated Enedis and one simulated box, told as it happens.
//!
//! It owns the three for as long as it runs; nothing is left behind. It promises to print what a box would print,
//! and never a whole token.

mod qr;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use serde_json::Value;

pub use self::qr::qr_code;
use crate::device::{Device, DeviceCodeAnswer, DeviceError, Tokens};
use crate::enedis::{Meters, Options, revokes, usage_points};
use crate::http::Answer;
use crate::net;
use crate::person::{Choice, Person, PersonError, Visit};
use crate::proxy_build::BuildError;
use crate::server::{Server, StartError};
use crate::store::StoreKind;
use crate::world::World;

/// Time the proxy may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// Time the box waits beyond the life of its codes, as a consent may take longer than that.
const PATIENCE: Duration = Duration::from_secs(1200);
/// Characters of a token that are shown.
const SHOWN: usize = 6;

/// The device flow from end to end on this machine: the proxy, a simulated Enedis, a simulated box.
#[derive(Clone, Debug, Parser)]
#[command(name = "demo")]
pub struct Arguments {
    /// Play the person too: open the link, consent, and say so step by step.
    #[arg(long)]
    pub auto: bool,
    /// With --auto: refuse the consent.
    #[arg(long, requires = "auto")]
    pub refuse: bool,
    /// Port of the proxy; a free one is taken if it is in use.
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// Test client of Enedis' sandbox who consents, 0 to 9: 7 has three meters, 8 revokes, 9 refuses.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=9))]
    pub client: u8,
}

/// Why the demonstration ended early.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// There is no proxy to run.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// No port is free.
    #[error("no port is free")]
    Port(#[from] io::Error),
    /// The proxy does not start.
    #[error("the proxy does not start")]
    Start(#[from] StartError),
    /// The box got no answer.
    #[error("the box is stuck")]
    Device(#[from] DeviceError),
    /// The person found no way.
    #[error("the person is stuck")]
    Person(#[from] PersonError),
    /// An answer that a working proxy does not give.
    #[error("unexpected answer, HTTP {0}: {1}")]
    Unexpected(u16, String),
}

/// Runs the demonstration of the proxy `binary` to its end or to Ctrl-C; both are a success. What there is to read goes
/// to `say`.
pub async fn run(arguments: &Arguments, binary: PathBuf, say: &dyn Fn(String)) -> Result<(), DemoError> {
    let port = if net::is_free(arguments.port) { arguments.port } else { net::free_port()? };
    let options = Options { meters: Meters::Client(arguments.client), ..Options::default() };
    let mut world = World::new(binary, options, StoreKind::Sqlite).await;
    world.builder = world.builder.port(port);
    let server = world.start().await?;
    let data = world.builder.data_path().display();
    say(format!("Proxy            {}  (SQLite in {data})", server.base_url()));
    if let Some(admin) = server.admin() {
        say(format!("Its metrics      http://{admin}/metrics"));
    }
    say(format!("Simulated Enedis {}\n", world.enedis.base_url()));

    let told = tokio::select! {
        told = tell(arguments, &world, &server, say) => told,
        _ = tokio::signal::ctrl_c() => {
            say("\nStopped.".to_owned());
            Ok(())
        }
    };
    // After Ctrl-C in a terminal the proxy was told to stop as well, and may be gone already.
    let _ = server.terminate();
    if let Err(error) = server.wait(STOP_WITHIN).await {
        eprintln!("the proxy is killed: {error}");
    }
    told
}

/// The story itself.
async fn tell(
    arguments: &Arguments,
    world: &World,
    server: &Server,
    say: &dyn Fn(String),
) -> Result<(), DemoError> {
    let mut device = Device::new(server.base_url(), world.enedis.options().client_id.as_str());
    let code = device.request_code(&[]).await?;
    say(announcement(&code));
    let within = Duration::from_secs(code.expires_in) + PATIENCE;
    if arguments.auto {
        say(described(&play(arguments, &code).await?));
    } else {
        say("Waiting for you (Ctrl-C ends the demonstration) …\n".to_owned());
    }
    let answer = device.poll_until_final(within).await?;
    if answer.status != 200 {
        say(format!("The box is told: {} {}", answer.status, answer.body));
        return match answer.error() {
            Some("access_denied" | "expired_token") => Ok(()),
            _ => Err(unexpected(answer)),
        };
    }
    say(format!("The box receives its token:\n{}\n", shortened(&answer.json)));
    let Some(tokens) = Tokens::read(&answer.json) else { return Err(unexpected(answer)) };
    let refreshed = device.refresh(&tokens.refresh, &[]).await?;
    if refreshed.status == 200 {
        say(format!("Later it refreshes it through /device/proxy:\n{}", shortened(&refreshed.json)));
        Ok(())
    } else if revokes(arguments.client) {
        let (status, body) = (refreshed.status, &refreshed.body);
        say(format!("The consent was revoked, so a refresh fails: {status} {body}"));
        Ok(())
    } else {
        Err(unexpected(refreshed))
    }
}

/// Plays the person, and fails on an error page that a consent does not lead to.
async fn play(arguments: &Arguments, code: &DeviceCodeAnswer) -> Result<Visit, DemoError> {
    let choice = if arguments.refuse { Choice::Refuse } else { Choice::Allow };
    let visit = Person::new().link(code.link(), choice).await?;
    let refuses = arguments.refuse || usage_points(arguments.client).is_none();
    if visit.status >= 400 && !refuses {
        return Err(DemoError::Unexpected(visit.status, visit.document.text));
    }
    Ok(visit)
}

/// What a box prints: the link, the same as a QR code, the code.
fn announcement(code: &DeviceCodeAnswer) -> String {
    format!(
        "To link this box to your meter, open\n\n    {link}\n\n{qr}\nor open {uri} and type\n\n    {user_code}\n\n\
         The code works for {minutes} minutes.\n",
        link = code.link(),
        qr = qr_code(code.link()).unwrap_or_default(),
        uri = code.verification_uri,
        user_code = code.user_code,
        minutes = code.expires_in / 60,
    )
}

/// What the person did and read.
fn described(visit: &Visit) -> String {
    let hops = visit.chain.iter().map(|hop| {
        // The path tells the step; queries carry codes.
        let (host, path) = (hop.url.authority(), hop.url.path());
        format!("  {:<4} http://{host}{path} → {}\n", hop.method.as_str(), hop.status)
    });
    format!("The person:\n{}  reads: {}\n", hops.collect::<String>(), visit.document.text)
}

/// The JSON of a token answer, indented, its tokens cut to a few characters.
fn shortened(json: &Value) -> String {
    let mut json = json.clone();
    for name in ["access_token", "refresh_token"] {
        if let Some(Value::String(token)) = json.get_mut(name) {
            let shown: String = token.chars().take(SHOWN).collect();
            *token = format!("{shown}… ({} characters)", token.chars().count());
        }
    }
    serde_json::to_string_pretty(&json).unwrap_or_default()
}

fn unexpected(answer: Answer) -> DemoError {
    DemoError::Unexpected(answer.status, answer.body)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
        let arguments = Arguments::try_parse_from(["demo", "--auto", "--port", "9000"]).expect("arguments");
        assert!(arguments.auto && arguments.port == 9000 && arguments.client == 0);
        assert!(Arguments::try_parse_from(["demo", "--client", "10"]).is_err());
        assert!(Arguments::try_parse_from(["demo", "--refuse"]).is_err());
    }

    #[test]
    fn a_box_shows_the_link_the_picture_and_the_code() {
        let code = DeviceCodeAnswer {
            device_code: "f".repeat(64),
            user_code: "BCDF-GHJK".into(),
            verification_uri: "http://localhost:8080/device".into(),
            verification_uri_complete: Some("http://localhost:8080/device?code=BCDF-GHJK".into()),
            expires_in: 300,
            interval: 5,
        };
        let text = announcement(&code);
        assert!(text.contains("\n    http://localhost:8080/device?code=BCDF-GHJK\n"));
        assert!(text.contains("\n    BCDF-GHJK\n") && text.contains("5 minutes") && text.contains('█'));
        assert!(!text.contains(&code.device_code));
    }

    #[test]
    fn tokens_are_never_shown_whole() {
        let text = shortened(
            &json!({"access_token": "0123456789", "refresh_token": "abcdefghij", "expires_in": 12600}),
        );
        assert!(text.contains("012345… (10 characters)") && text.contains("12600"));
        assert!(!text.contains("0123456789") && !text.contains("abcdefghij"));
    }
}
