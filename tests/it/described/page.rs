//! The explorer in a real Chromium that reaches nothing but this machine.

use crate::identity::{ENV, PASSWORD, config, token, users};
use crate::support::browser::Browser;
use crate::support::daemon::Daemon;
use crate::support::http;
use serde_json::{Value, json};

/// A title that would run, were it ever markup.
const HOSTILE: &str = "title = '''<img src=x onerror=\"window.hostile = 1\"><script>window.hostile = 2</script>'''\n\
    mode = \"auto\"\nalerts = [\"ServiceDown\"]\ntarget = \"a\"\n[[steps]]\nid = \"s\"\ncommand = { program = \"true\" }\n";

fn daemon() -> Daemon {
    Daemon::start(&config(""), &[("hostile", HOSTILE)], ENV)
}

fn open(daemon: &Daemon) -> Browser {
    let browser = Browser::start();
    browser.open(&format!("http://{}/docs/explorer.html", daemon.address()));
    browser.text("#count", |text| text.ends_with(" operations"));
    browser
}

/// What the console says of errors, but for answers that were asked for.
fn errors(browser: &Browser) -> Vec<String> {
    let lines = browser.console().into_iter();
    let bad = lines.filter(|(source, level, _)| source != "network" && level != "INFO" && level != "DEBUG");
    bad.map(|(source, level, text)| format!("{source} {level} {text}")).collect()
}

fn send(browser: &Browser, operation: &str) -> (String, String) {
    browser.click(&format!("#{operation} button[type=submit]"));
    let status = browser.text(&format!("#{operation} .status"), |text| !text.is_empty());
    let body = browser.text(&format!("#{operation} .body"), |text| text.ends_with('}'));
    (status, body)
}

fn forget(browser: &Browser, operation: &str) {
    let script = "document.querySelector(arguments[0]).replaceChildren()";
    browser.script(script, &[json!(format!("#{operation} .answer"))]);
}

#[test]
fn t14_the_explorer_sends_a_request_and_shows_the_answer_as_text_only() {
    let daemon = daemon();
    let browser = open(&daemon);
    let all = browser.text("#count", |_| true);
    assert!(all.split(' ').next().unwrap().parse::<u32>().unwrap() > 50, "{all}");
    browser.fill("#filter", "get /api/runbooks versions");
    assert_eq!(browser.text("#count", |text| text != all), "1 operations");
    browser.fill("#filter", "/api/runbooks read");
    browser.text("#count", |text| text != "1 operations" && text != all);
    browser.click("#listRunbooks > summary");
    // Nobody, somebody with a wrong token, and a viewer.
    let (status, body) = send(&browser, "listRunbooks");
    assert!(status.starts_with("401") && body.contains("a credential is required"), "{status} {body}");
    forget(&browser, "listRunbooks");
    browser.fill("#secret", "e30.e30.e30");
    let (status, body) = send(&browser, "listRunbooks");
    assert!(status.starts_with("401") && body.contains("unauthorized"), "{status} {body}");
    forget(&browser, "listRunbooks");
    let viewer = token("vera", &["viewer"], &[]);
    browser.fill("#secret", &viewer);
    let (status, body) = send(&browser, "listRunbooks");
    assert!(status.starts_with("200"), "{status} {body}");
    let shown: Value = serde_json::from_str(&body).unwrap();
    let title = shown["runbooks"][0]["title"].as_str().unwrap();
    assert!(title.starts_with("<img src=x onerror="), "{title}");
    let is = |script: &str| browser.script(script, &[]);
    assert_eq!(is("return document.querySelectorAll('main img, main script').length"), 0);
    assert_eq!(is("return window.hostile ?? null"), Value::Null);
    assert_eq!(errors(&browser), Vec::<String>::new());
    // The credential is nowhere but in its field.
    let kept = is("return [localStorage.length, sessionStorage.length, document.cookie, location.href]");
    assert_eq!(kept, json!([0, 0, "", format!("http://{}/docs/explorer.html", daemon.address())]));
    assert!(!is("return document.documentElement.outerHTML").as_str().unwrap().contains(&viewer));
    // Everything came from this daemon.
    let asked =
        is("return performance.getEntriesByType('resource').map((entry) => new URL(entry.name).host)");
    assert!(asked.as_array().unwrap().iter().all(|host| host == daemon.address()), "{asked}");
}

#[test]
fn a_key_and_an_example_with_a_body_are_sent_as_they_stand_in_the_page() {
    let daemon = daemon();
    let bearer = format!("Bearer {}", token("dana", &["operator"], &[]));
    let wish = json!({ "name": "a browser", "roles": ["operator"], "expires_in": "1h" }).to_string();
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let made =
        http::request(daemon.address(), "POST", "/api/keys", &headers, wish.as_bytes()).unwrap().json();
    let browser = open(&daemon);
    browser.click("#scheme option[value=key]");
    browser.fill("#secret", made["key"].as_str().unwrap());
    browser.fill("#filter", "/api/explain");
    browser.click("#explain > summary");
    browser.click("#explain details:nth-last-of-type(2) > summary");
    browser.click("#explain details[open] button");
    let (status, body) = send(&browser, "explain");
    let decision: Value = serde_json::from_str(&body).unwrap();
    assert!(status.starts_with("200"), "{status} {body}");
    assert_eq!((&decision["runbook"], &decision["verdict"]), (&json!("hostile"), &json!("execute")));
    // What the server refuses is shown as well.
    forget(&browser, "explain");
    browser.fill("#explain textarea", "{\"labels\": {\"alertname\"");
    let (status, body) = send(&browser, "explain");
    assert!(status.starts_with("400") && body.contains("malformed"), "{status} {body}");
    // A path parameter is one part of the path, whatever is in it.
    browser.fill("#filter", "get /api/runbooks/{id}");
    browser.click("#showRunbook > summary");
    browser.fill("#showRunbook input[data-name=id]", "../executions");
    let (status, _) = send(&browser, "showRunbook");
    assert!(status.starts_with("404"), "{status}");
    browser.fill("#showRunbook input[data-name=id]", "hostile");
    forget(&browser, "showRunbook");
    let (status, body) = send(&browser, "showRunbook");
    assert!(status.starts_with("200") && body.contains("\"content\""), "{status} {body}");
    assert_eq!(errors(&browser), Vec::<String>::new());
}

#[test]
fn whoever_signs_in_on_the_page_may_change_things_with_the_session_of_the_browser() {
    let dir = tempfile::tempdir().unwrap();
    let file = users(dir.path(), &[("erin", "\"operator\"")]);
    let daemon = Daemon::start(&config(&format!("users_file = \"{file}\"\n")), &[("hostile", HOSTILE)], ENV);
    let browser = open(&daemon);
    let try_out = |operation: &str, filter: &str, body: &Value| {
        browser.fill("#filter", filter);
        browser.click(&format!("#{operation} > summary"));
        browser.fill(&format!("#{operation} textarea"), &body.to_string());
        send(&browser, operation)
    };
    let wish = json!({ "name": "from the page", "roles": ["operator"] });
    let (status, _) = try_out("makeKey", "post /api/keys", &wish);
    assert!(status.starts_with("401"), "{status}");
    let (status, body) =
        try_out("signIn", "/api/users/login", &json!({ "username": "erin", "password": PASSWORD }));
    assert!(status.starts_with("200"), "{status} {body}");
    forget(&browser, "makeKey");
    browser.fill("#filter", "post /api/keys");
    let (status, body) = send(&browser, "makeKey");
    assert!(status.starts_with("201"), "{status} {body}");
    assert_eq!(browser.script("return document.cookie", &[]), "");
    assert_eq!(errors(&browser), Vec::<String>::new());
}

/// The contrast of every text of the page against what is behind it, at its least; by WCAG's formula.
const CONTRAST: &str = r#"
const light = (color) => {
  const [r, g, b] = color.match(/[\d.]+/g).slice(0, 3).map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const color = getComputedStyle(at).backgroundColor;
    if (!/, 0\)$/.test(color)) return color;
  }
  return "rgb(255, 255, 255)";
};
let least = 99;
for (const element of document.querySelectorAll("body *")) {
  const texts = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!texts || !element.checkVisibility() || element.disabled) continue;
  const [one, other] = [light(getComputedStyle(element).color), light(behind(element))];
  least = Math.min(least, (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05));
}
return least;
"#;

#[test]
fn the_page_is_read_by_keyboard_on_a_small_screen_and_in_the_dark() {
    let daemon = daemon();
    let browser = open(&daemon);
    browser.fill("#filter", "/api/decisions");
    for scheme in ["light", "dark"] {
        browser.look((360, 740), scheme);
        let opened = browser.script("return document.querySelector('#listDecisions').open", &[]);
        if opened == false {
            // The keyboard alone opens an operation.
            browser.script("document.querySelector('#listDecisions > summary').focus()", &[]);
            browser.press("\u{e007}");
        }
        browser.find("#listDecisions button[type=submit]");
        browser.click("#listDecisions .answer + h4, #listDecisions details > summary");
        let width = browser.script("return document.documentElement.scrollWidth", &[]);
        assert!(width.as_u64().unwrap() <= 360, "{scheme}: {width} pixels wide");
        let contrast = browser.script(CONTRAST, &[]).as_f64().unwrap();
        assert!(contrast >= 4.5, "{scheme}: a contrast of {contrast}");
    }
    // Every field has a name, and the focus is seen.
    let nameless = "return [...document.querySelectorAll('input, select, textarea')].filter((field) => field.labels.length === 0).length";
    assert_eq!(browser.script(nameless, &[]), 0);
    browser.script("document.querySelector('#secret').focus()", &[]);
    browser.press("\u{e004}");
    let outline = browser.script("return getComputedStyle(document.activeElement).outlineStyle", &[]);
    assert_eq!(outline, "solid");
    assert_eq!(errors(&browser), Vec::<String>::new());
}

#[test]
fn t15_the_page_may_run_its_own_script_and_nothing_that_is_smuggled_in() {
    let daemon = daemon();
    let answer = daemon.try_get("/docs/explorer.html").unwrap();
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = answer.header("content-security-policy").unwrap();
    for part in [
        "default-src 'none'",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "script-src 'sha256-",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("http") && !policy.contains('*'), "{policy}");
    // Nothing in it leads elsewhere.
    let page = answer.text();
    for elsewhere in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!page.contains(elsewhere), "the page has {elsewhere}");
    }
    let browser = open(&daemon);
    let smuggle = "const script = document.createElement('script');\
        try { script.textContent = 'window.hostile = 3'; } catch { script.append('window.hostile = 3'); }\
        document.body.append(script); return window.hostile ?? null";
    assert_eq!(browser.script(smuggle, &[]), Value::Null);
    assert!(!errors(&browser).is_empty(), "the browser says nothing of what it refused");
}
