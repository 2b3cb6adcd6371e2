//! The sender against a stand-in: how much is under way at once, and what goes first. Told by rounds, not by time.

use super::*;
use crate::model::ExecutionStatus;
use crate::notifier::queue::MAX_FLYING_OF_ONE;
use crate::notifier::{Channel, Webhook};
use crate::report::Directory;
use crate::step::HttpClient;
use crate::store::MemoryStore;
use crate::store::records::outbox;
use crate::store::records::outbox::tests::failed;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A time that the test sets.
#[derive(Debug)]
struct Hand(AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

/// What a stand-in saw.
#[derive(Default)]
struct Seen {
    subjects: Mutex<Vec<String>>,
    open: AtomicUsize,
    most: AtomicUsize,
    /// What it answers at first; 200 afterwards.
    first: Mutex<Vec<&'static str>>,
}

async fn stand_in(seen: &Arc<Seen>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let seen = Arc::clone(seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, Arc::clone(&seen)));
        }
    });
    url
}

async fn answer(mut stream: TcpStream, seen: Arc<Seen>) {
    let mut bytes = Vec::new();
    let body = loop {
        let mut chunk = [0; 4096];
        let Ok(read @ 1..) = stream.read(&mut chunk).await else { return };
        bytes.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            break body.to_owned();
        }
    };
    let open = seen.open.fetch_add(1, Ordering::SeqCst) + 1;
    seen.most.fetch_max(open, Ordering::SeqCst);
    // The others that are under way get here first.
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    let said: serde_json::Value = serde_json::from_str(&body).unwrap();
    seen.subjects.lock().unwrap().push(said["subject"].as_str().unwrap().to_owned());
    let head = seen.first.lock().unwrap().pop().unwrap_or("200 OK");
    seen.open.fetch_sub(1, Ordering::SeqCst);
    let said = format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    drop(stream.write_all(said.as_bytes()).await);
}

struct Bench {
    sender: Sender,
    records: Records,
    clock: Arc<Hand>,
}

async fn bench(channels: &[(&str, &str)]) -> Bench {
    let records = Records::new(Arc::new(MemoryStore::new()));
    let clock = Arc::new(Hand(AtomicI64::new(1000)));
    let client = HttpClient::build().unwrap();
    let channel = |url: &str| {
        Channel::Webhook(Webhook {
            client: client.clone(),
            url: crate::model::Secret::new(url),
            secret: None,
        })
    };
    let book = Book {
        channels: channels.iter().map(|(name, url)| ((*name).to_owned(), channel(url))).collect(),
        directory: Directory {
            notifiers: channels.iter().map(|(name, _)| ((*name).to_owned(), false)).collect(),
            policies: Default::default(),
            escalate_to: vec![channels[0].0.to_owned()],
        },
        external_url: "http://runbookd".into(),
    };
    let sender = Sender::new(SenderParts {
        records: records.clone(),
        notifiers: Notifiers::new(book),
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        metrics: Metrics::new(&crate::telemetry::Build { version: "1", revision: "r" }, at(0)),
    });
    Bench { sender, records, clock }
}

impl Bench {
    async fn put(&self, one: Escalation) {
        crate::store::records::transact(&**self.records.store(), move |txn| outbox::open(txn, &one))
            .await
            .unwrap();
    }

    /// Looks once through the outbox, and from then on only at what lands, until nothing is under way; how many rounds.
    async fn drain(&mut self) -> usize {
        self.sender.scan_at = Instant::now();
        let mut rounds = 0;
        loop {
            rounds += 1;
            assert!(self.sender.look().await.is_ok());
            // No second look through everything helps out.
            self.sender.scan_at = Instant::now() + Duration::from_secs(3600);
            let Some(ended) = self.sender.tasks.join_next().await else { return rounds };
            self.sender.landed(ended);
        }
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[tokio::test]
async fn a_burst_goes_out_as_fast_as_messages_land_and_damage_goes_first() {
    let seen = Arc::new(Seen::default());
    let url = stand_in(&seen).await;
    let mut bench = bench(&[("hook", &url)]).await;
    for number in 0..300 {
        bench.put(failed("r", &format!("t{number:03}"), at(900))).await;
    }
    let undone = failed("r", "half", at(950));
    bench.put(Escalation { status: Some(ExecutionStatus::RollbackFailed), ..undone }).await;
    let rounds = bench.drain().await;
    let subjects = seen.subjects.lock().unwrap().clone();
    assert_eq!(subjects.len(), 301);
    assert!(rounds <= 302, "a landing is all it takes to go on: {rounds}");
    assert_eq!(seen.most.load(Ordering::SeqCst), MAX_FLYING_OF_ONE);
    let place = subjects.iter().position(|subject| subject.contains("rollback failed")).unwrap();
    assert!(place < MAX_FLYING_OF_ONE, "it was one of the first that were under way: {place}");
    assert_eq!(bench.records.pending_escalations(1000).await.unwrap(), []);
}

#[tokio::test]
async fn a_channel_that_asks_for_rest_is_asked_for_no_other_message_until_then() {
    let seen = Arc::new(Seen::default());
    seen.first.lock().unwrap().push("429 Too Many\r\nRetry-After: 20");
    let url = stand_in(&seen).await;
    let mut bench = bench(&[("hook", &url)]).await;
    bench.put(failed("r", "first", at(900))).await;
    bench.drain().await;
    for number in 0..50 {
        bench.put(failed("r", &format!("t{number}"), at(901))).await;
    }
    bench.drain().await;
    assert_eq!(seen.subjects.lock().unwrap().len(), 1, "it is the channel that wants to be left alone");
    bench.clock.0.store(1021, Ordering::SeqCst);
    bench.drain().await;
    assert_eq!(seen.subjects.lock().unwrap().len(), 52);
}

#[tokio::test]
async fn channels_that_say_nothing_hold_up_no_other() {
    let (dead, seen) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Arc::new(Seen::default()));
    let (silent, url) = (format!("http://{}/", dead.local_addr().unwrap()), stand_in(&seen).await);
    let names: Vec<String> = (0..9).map(|number| format!("silent{number}")).collect();
    let mut channels = vec![("hook", url.as_str())];
    channels.extend(names.iter().map(|name| (name.as_str(), silent.as_str())));
    let mut bench = bench(&channels).await;
    for name in names.iter().flat_map(|name| std::iter::repeat_n(name, 5)).enumerate() {
        let one = failed("r", &format!("t{}", name.0), at(900));
        bench.put(Escalation { to: Some(vec![name.1.clone()]), ..one }).await;
    }
    bench.put(failed("r", "heard", at(999))).await;
    assert!(bench.sender.look().await.is_ok());
    let ended = bench.sender.tasks.join_next().await.unwrap().unwrap();
    assert_eq!((ended.notifier.as_str(), seen.subjects.lock().unwrap().len()), ("hook", 1));
}

#[tokio::test]
async fn what_counts_many_ends_with_its_hour() {
    let seen = Arc::new(Seen::default());
    let url = stand_in(&seen).await;
    let mut bench = bench(&[("hook", &url)]).await;
    let many = Escalation {
        cause: crate::report::Cause::Denied,
        totals: Some(crate::report::Totals { count: 2, ..Default::default() }),
        ..failed("r", "t", at(1000))
    };
    bench.put(many.clone()).await;
    bench.drain().await;
    let standing = |bench: &Bench| {
        let (records, id) = (bench.records.clone(), many.id.clone());
        async move { records.escalation(&id).await.unwrap().unwrap().standing }
    };
    assert_eq!(standing(&bench).await, Standing::Open);
    bench.clock.0.store(1000 + 3600, Ordering::SeqCst);
    bench.drain().await;
    assert_eq!(standing(&bench).await, Standing::Resolved);
    assert_eq!(bench.records.pending_escalations(10).await.unwrap(), []);
}
