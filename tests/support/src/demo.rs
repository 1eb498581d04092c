//! The demonstration: the real proxy on SQLite, the simulated Enedis and one simulated box, told as it happens.
//!
//! It owns the three for as long as it runs; nothing is left behind. It promises to print what a box would print,
//! and never a whole token.

mod qr;

use std::io;
use std::time::Duration;

use clap::Parser;
use serde_json::Value;

pub use self::qr::qr_code;
use crate::device::{Device, DeviceCodeAnswer, DeviceError, Tokens};
use crate::enedis::{Meters, Options, Simulator, revokes, usage_points};
use crate::http::Answer;
use crate::net;
use crate::person::{Choice, Person, PersonError, Visit};
use crate::proxy_build::{self, BuildError};
use crate::server::{Server, StartError};

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

/// Runs the demonstration to its end or to Ctrl-C; both are a success.
pub async fn run(arguments: Arguments) -> Result<(), DemoError> {
    let binary = proxy_build::proxy()?;
    let sim =
        Simulator::start(Options { meters: Meters::Client(arguments.client), ..Options::default() }).await;
    let port = if net::is_free(arguments.port) { arguments.port } else { net::free_port()? };
    let secret = sim.options().client_secret.clone().unwrap_or_default();
    let builder = Server::builder(binary)
        .port(port)
        .env("FLOW", "DEVICE")
        .env("CLIENT_ID", &sim.options().client_id)
        .env("CLIENT_SECRET", secret)
        .env("AUTHORIZATION_ENDPOINT", sim.authorize_url())
        .env("TOKEN_ENDPOINT", sim.token_url());
    sim.set_callback(format!("{}/auth/redirect", builder.base_url()));
    let server = builder.start().await?;
    println!("Proxy            {}  (SQLite in {})", server.base_url(), builder.data_path().display());
    if let Some(admin) = server.admin() {
        println!("Its metrics      http://{admin}/metrics");
    }
    println!("Simulated Enedis {}\n", sim.base_url());

    let told = tokio::select! {
        told = tell(&arguments, &sim, &server) => told,
        _ = tokio::signal::ctrl_c() => {
            println!("\nStopped.");
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
async fn tell(arguments: &Arguments, sim: &Simulator, server: &Server) -> Result<(), DemoError> {
    let mut device = Device::new(server.base_url(), sim.options().client_id.as_str());
    let code = device.request_code(&[]).await?;
    println!("{}", announcement(&code));
    let within = Duration::from_secs(code.expires_in) + PATIENCE;
    let answer = if arguments.auto {
        let person = async { play(arguments, &code).await };
        let device = async { Ok(device.poll_until_final(within).await?) };
        let ((), answer) = tokio::try_join!(person, device)?;
        answer
    } else {
        println!("Waiting for you (Ctrl-C ends the demonstration) …\n");
        device.poll_until_final(within).await?
    };
    if answer.status != 200 {
        println!("The box is told: {} {}", answer.status, answer.body);
        return match answer.error() {
            Some("access_denied" | "expired_token") => Ok(()),
            _ => Err(unexpected(answer)),
        };
    }
    println!("The box receives its token:\n{}\n", shortened(&answer.json));
    let Some(tokens) = Tokens::read(&answer.json) else { return Err(unexpected(answer)) };
    let refreshed = device.refresh(&tokens.refresh, &[]).await?;
    if refreshed.status == 200 {
        println!("Later it refreshes it through /device/proxy:\n{}", shortened(&refreshed.json));
        Ok(())
    } else if revokes(arguments.client) {
        println!("The consent was revoked, so a refresh fails: {} {}", refreshed.status, refreshed.body);
        Ok(())
    } else {
        Err(unexpected(refreshed))
    }
}

/// Plays the person, and fails on an error page that a consent does not lead to.
async fn play(arguments: &Arguments, code: &DeviceCodeAnswer) -> Result<(), DemoError> {
    let choice = if arguments.refuse { Choice::Refuse } else { Choice::Allow };
    let visit = Person::new().link(code.link(), choice).await?;
    print_visit(&visit);
    let refuses = arguments.refuse || usage_points(arguments.client).is_none();
    if visit.status >= 400 && !refuses {
        return Err(DemoError::Unexpected(visit.status, visit.document.text));
    }
    Ok(())
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

fn print_visit(visit: &Visit) {
    println!("The person:");
    for hop in &visit.chain {
        // The path tells the step; queries carry codes.
        let host = hop.url.authority();
        println!("  {:<4} http://{host}{} → {}", hop.method.as_str(), hop.url.path(), hop.status);
    }
    println!("  reads: {}\n", visit.document.text);
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
