//! The demonstration: the real proxy on SQLite, the simulated Enedis and one simulated box, told as it happens.
//!
//! It owns the three for as long as it runs; nothing is left behind. It promises to print what a box would print,
//! and never a whole token.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde_json::Value;

use crate::device::{Device, DeviceCodeAnswer, Tokens};
use crate::enedis::Options;
use crate::http::Fault;
use crate::net;
use crate::person::{Choice, Person, Visit};
use crate::server::Server;
use crate::world::StoreKind;
use crate::world::World;

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
    /// Port of the proxy; a free one is taken if it is in use.
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
}

/// Runs the demonstration of the proxy `binary` to its end or to Ctrl-C; both are a success. What there is to read goes
/// to `say`.
pub async fn run(arguments: &Arguments, binary: PathBuf, say: &dyn Fn(String)) -> Result<(), Fault> {
    let port = if net::is_free(arguments.port) { arguments.port } else { net::free_port()? };
    let mut world = World::new(binary, Options::default(), StoreKind::Sqlite).await;
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

async fn tell(
    arguments: &Arguments,
    world: &World,
    server: &Server,
    say: &dyn Fn(String),
) -> Result<(), Fault> {
    let mut device = Device::new(server.base_url(), world.enedis.options().client_id.as_str());
    let code = device.request_code(&[]).await?;
    say(announcement(&code));
    let within = Duration::from_secs(code.expires_in) + PATIENCE;
    if arguments.auto {
        let visit = Person::new().link(code.link(), Choice::Allow).await?;
        if visit.status >= 400 {
            return Err(unexpected(visit.status, &visit.document.text));
        }
        say(described(&visit));
    } else {
        say("Waiting for you (Ctrl-C ends the demonstration) …\n".to_owned());
    }
    let answer = device.poll_until_final(within).await?;
    let Some(tokens) = Tokens::read(&answer.json) else {
        say(format!("The box is told: {} {}", answer.status, answer.body));
        let is_decided = matches!(answer.error(), Some("access_denied" | "expired_token"));
        return if is_decided { Ok(()) } else { Err(unexpected(answer.status, &answer.body)) };
    };
    say(format!("The box receives its token:\n{}\n", shortened(&answer.json)));
    let refreshed = device.refresh(&tokens.refresh, &[]).await?;
    if refreshed.status != 200 {
        return Err(unexpected(refreshed.status, &refreshed.body));
    }
    say(format!("Later it refreshes it through /device/proxy:\n{}", shortened(&refreshed.json)));
    Ok(())
}

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

/// `text` as a QR code of half-block characters, light modules drawn, as fits a dark terminal; scanners of today
/// read it inverted on a light one. A link of 80 characters takes 41 columns and 21 lines. `None` if it is too
/// long for a QR code (2953 bytes).
fn qr_code(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let picture = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    Some(picture + "\n")
}

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

/// An answer that a working proxy does not give.
fn unexpected(status: u16, body: &str) -> Fault {
    format!("unexpected answer, HTTP {status}: {body}").into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
        let picture = qr_code(code.link()).expect("a picture");
        assert!(picture.lines().count() <= 22 && picture.lines().all(|line| line.chars().count() <= 44));
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
