//! What each channel makes of a hostile letter, and what an answer means.

use super::*;
use crate::step::Posted;
use serde_json::json;

fn letter() -> Letter {
    Letter {
        id: "01J9ZQ5K3M8N7P6R5S4T3V2W1X".into(),
        at: Timestamp::from_second(1000).unwrap(),
        subject: "bad: failed on <!everyone> & \"x\"".into(),
        body: "*bold* <http://evil|ok>\n=cmd()".into(),
        links: vec![
            crate::report::Link { text: "execution", href: "http://runbookd/api/executions/x".into() },
            crate::report::Link { text: "graph", href: "http://prometheus/graph?a=1&b=2".into() },
        ],
        facts: vec![("runbook", "bad".into()), ("alertname", "Down".into()), ("denials", "3".into())],
        is_critical: true,
    }
}

fn attempt(letter: &Letter, occasion: Occasion) -> Try<'_> {
    Try { letter, occasion, key: "key.1", turn: 1, now: Timestamp::from_second(2000).unwrap() }
}

#[test]
fn t41_slack_is_given_plain_text_and_links_of_our_own() {
    let letter = letter();
    let payload = slack::payload(&attempt(&letter, Occasion::Trigger));
    assert_eq!(payload["text"], "bad: failed on &lt;!everyone&gt; &amp; \"x\"");
    assert_eq!(
        payload["blocks"][1]["text"],
        json!({ "type": "plain_text", "emoji": false, "text": letter.body })
    );
    let link = |place: usize| payload["blocks"][place]["text"]["text"].clone();
    assert_eq!(link(2), "<http://runbookd/api/executions/x|Open the execution>");
    assert_eq!(link(3), "<http://prometheus/graph?a=1&amp;b=2|Open the graph>");
}

#[test]
fn pagerduty_ends_what_it_began_by_the_same_key() {
    let letter = letter();
    let trigger = pagerduty::payload(&attempt(&letter, Occasion::Trigger), "k");
    let resolve = pagerduty::payload(&attempt(&letter, Occasion::Resolve), "k");
    assert_eq!(trigger["dedup_key"], resolve["dedup_key"]);
    assert_eq!(resolve["event_action"], "resolve");
    assert_eq!(
        (&trigger["payload"]["severity"], &trigger["payload"]["source"]),
        (&json!("critical"), &json!("bad"))
    );
    assert_eq!(trigger["payload"]["timestamp"], "1970-01-01T00:16:40Z");
}

#[test]
fn an_alert_has_the_same_labels_to_its_end() {
    let letter = letter();
    let fires = alertmanager::payload(&attempt(&letter, Occasion::Trigger));
    let ends = alertmanager::payload(&attempt(&letter, Occasion::Resolve));
    assert_eq!(fires[0]["labels"], ends[0]["labels"]);
    assert_eq!(
        (&fires[0]["labels"]["alertname"], &fires[0]["labels"]["source_alertname"]),
        (&json!("RunbookdExecutionFailed"), &json!("Down"))
    );
    assert!(fires[0]["labels"].get("denials").is_none(), "what grows would make it another alert");
    assert_eq!(
        (&fires[0]["endsAt"], &ends[0]["endsAt"]),
        (&json!("1970-01-02T00:33:20Z"), &json!("1970-01-01T00:33:20Z"))
    );
}

#[test]
fn a_webhook_is_signed_as_anybody_can_check() {
    // RFC 4231, test case 2.
    assert_eq!(
        webhook::sign("Jefe", b"what do ya want for nothing?"),
        "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
    let letter = letter();
    assert_eq!(webhook::payload(&attempt(&letter, Occasion::Trigger))["timestamp"], 2000);
}

#[test]
fn t41_a_mail_has_one_line_of_subject_and_the_same_id_in_every_try() {
    let mail = Mail {
        host: "127.0.0.1".into(),
        port: 25,
        tls: Tls::None,
        auth: None,
        from: "runbookd@example.org".into(),
        to: vec!["On call <oncall@example.org>".into()],
    };
    let channel = Email::new(&mail).unwrap();
    let hostile = Letter { subject: "x\r\nBcc: eve@example.org\r\n\r\nbody ü".into(), ..letter() };
    let text = |key: &str| {
        let message = channel.message(&hostile, key).unwrap();
        String::from_utf8(message.formatted()).unwrap()
    };
    let mail = text("01J.mail>\r\nBcc: eve");
    let head = mail.split("\r\n\r\n").next().unwrap();
    assert!(!head.lines().any(|line| line.to_ascii_lowercase().starts_with("bcc")), "{head}");
    assert!(head.contains("Message-ID: <01J.mailBcceve@runbookd>"), "{head}");
    assert!(matches!(
        Email::new(&Mail { from: "no".into(), ..Mail { to: vec![], ..mail_of() } }),
        Err(EmailError::Address(_))
    ));
}

fn mail_of() -> Mail {
    Mail { host: "h".into(), port: 25, tls: Tls::None, auth: None, from: "a@b".into(), to: vec![] }
}

#[test]
fn t41_what_would_be_a_command_elsewhere_is_text_in_every_channel() {
    let words = "=cmd|'/c calc'!A1 @everyone <!channel> [click](http://evil) <http://evil|ok> +1 -1";
    let letter = Letter { subject: words.into(), body: words.into(), ..letter() };
    let attempt = attempt(&letter, Occasion::Trigger);
    // What is read by a program is handed over as a JSON text, unchanged: each reader shows it as text.
    let page = pagerduty::payload(&attempt, "k");
    assert_eq!(page["payload"]["summary"], words);
    assert_eq!(page["links"].as_array().map(Vec::len), Some(2), "only our own links");
    assert!(!page["links"].to_string().contains("evil"));
    assert_eq!(webhook::payload(&attempt)["subject"], words);
    assert_eq!(alertmanager::payload(&attempt)[0]["annotations"]["summary"], words);
    let slack = slack::payload(&attempt);
    for block in slack["blocks"].as_array().unwrap() {
        let is_ours = !block.to_string().contains("evil");
        assert_eq!(block["text"]["type"] == "mrkdwn", is_ours, "{block}");
    }
    let shown = slack["text"].as_str().unwrap();
    assert!(!shown.contains('<') && slack["parse"] == "none" && slack["link_names"] == false, "{shown}");
}

#[test]
fn only_2xx_is_taken_and_only_what_stays_a_refusal_is_final() {
    let answer = |status| Ok(Posted { status, retry_after: None, words: "no hunter22\nx".into() });
    let secret = Secret::new("hunter22");
    for status in [200, 202, 204] {
        assert_eq!(judge(answer(status), &[&secret]), Ok(()));
    }
    for (status, permanent) in [
        (301, true),
        (400, true),
        (401, true),
        (404, true),
        (410, true),
        (408, false),
        (425, false),
        (429, false),
        (500, false),
        (503, false),
    ] {
        let failure = judge(answer(status), &[&secret]).unwrap_err();
        assert_eq!((failure.permanent, failure.status), (permanent, Some(status)), "{status}");
        assert_eq!(failure.why, format!("it answered {status}: no (secret) x"));
    }
    assert!(!judge(Err("could not connect".into()), &[]).unwrap_err().permanent);
}
