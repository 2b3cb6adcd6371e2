//! Where a setting comes from: flag, else environment, else file, else default.
//!
//! A [`Section`] reads one `[section]` key by key through all of them, and notes each effective value
//! with its origin for `GET /api/config`. Every origin that is present is checked, also one that another
//! overrides, so that all problems show at once. May import: `model`, `document`. Must never: read the
//! process environment, or put a secret into an [`Item`].

use super::schema::{self, Key};
use crate::document::{Place, Problems, Table, Value};
use crate::model::Secret;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

/// Who decided a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A flag of the command line.
    Flag,
    /// A variable `RUNBOOKD_<SECTION>__<KEY>`.
    Environment,
    /// The config file.
    File,
    /// Nobody; the built-in value.
    Default,
}

impl Source {
    /// The word in `GET /api/config`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::File => "file",
            Self::Default => "default",
        }
    }
}

/// One effective value, fit to be shown to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The key's path, such as `server.listen`.
    pub name: String,
    /// The value as text; a secret is the word `secret`, an absent value is empty.
    pub value: String,
    /// Who decided it.
    pub from: Source,
}

/// Flags that stand above the file, as typed; relative paths are relative to the working directory.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--web.listen-address`
    pub listen: Option<String>,
    /// `--web.external-url`
    pub external_url: Option<String>,
    /// `--storage.path`
    pub storage_path: Option<String>,
    /// `--runbooks.dir`
    pub runbooks_dir: Option<String>,
    /// `--web.config.file`: no setting, but a file of its own.
    pub web_config_file: Option<String>,
    /// Whether the programs that print secrets are left alone; whatever they would print is taken to be good.
    pub leave_programs: bool,
}

impl Overrides {
    fn of(&self, key: &Key) -> Option<&str> {
        match key.name {
            "server.listen" => self.listen.as_deref(),
            "server.external_url" => self.external_url.as_deref(),
            "store.path" => self.storage_path.as_deref(),
            "runbooks.dir" => self.runbooks_dir.as_deref(),
            _ => None,
        }
    }
}

/// Stored credentials by name; `None` stands for one that no key opens.
pub type Stored = BTreeMap<String, Option<Secret>>;

/// A value given by a flag or a variable, with a place of its own for its problems.
pub(super) struct Given<'i> {
    key: &'static Key,
    source: Source,
    text: &'i str,
    pub(super) problems: Problems,
}

/// What flags and environment give, the strongest first.
pub(super) fn given<'i>(flags: &'i Overrides, env: &'i BTreeMap<String, String>) -> Vec<Given<'i>> {
    let mut out = Vec::new();
    for key in schema::KEYS {
        if let (Some(text), Some(flag)) = (flags.of(key), key.flag) {
            out.push(Given { key, source: Source::Flag, text, problems: Problems::outside(flag) });
        }
        let name = key.variable();
        if let (Some(text), Some(_)) = (env.get(&name), key.shape) {
            out.push(Given { key, source: Source::Environment, text, problems: Problems::outside(&name) });
        }
    }
    out
}

/// A value with its origin, for checks that concern several keys.
#[derive(Debug, Clone)]
pub(super) struct Setting<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// Everything the sections read from, and what they leave behind.
pub(super) struct Sources<'d> {
    pub(super) problems: &'d Problems,
    pub(super) env: &'d BTreeMap<String, String>,
    /// The directory of the config file.
    pub(super) base: PathBuf,
    /// Values from flags and environment, not yet read.
    outside: RefCell<BTreeMap<&'static str, Vec<(Source, Value<'d>)>>>,
    items: RefCell<Vec<Item>>,
    /// Parts of the text that may hold a secret and are not to be shown again.
    masks: RefCell<Vec<Range<usize>>>,
    /// Every secret that was read.
    pub(super) hidden: RefCell<Vec<Secret>>,
    /// The credentials in the store, once it is open; `None` stands for one that no key opens.
    pub(super) stored: Option<&'d Stored>,
    /// Names of credentials that the config refers to.
    pub(super) wanted: RefCell<BTreeSet<String>>,
    /// Whether credentials can be stored at all.
    pub(super) has_vault: Cell<bool>,
    /// Whether programs that print secrets are left alone.
    pub(super) leave_programs: bool,
    /// Variables named by `{ env = … }`.
    pub(super) referred: RefCell<BTreeSet<String>>,
}

impl<'d> Sources<'d> {
    pub(super) fn new(
        problems: &'d Problems,
        env: &'d BTreeMap<String, String>,
        base: PathBuf,
        given: &'d [Given<'d>],
        stored: Option<&'d Stored>,
    ) -> Self {
        let mut outside: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for Given { key, source, text, problems } in given {
            if let Some(shape) = key.shape {
                let value = Value::outside(problems, key.name, shape, text);
                outside.entry(key.name).or_default().push((*source, value));
            }
        }
        let outside = RefCell::new(outside);
        let (items, masks, hidden, wanted, referred) = Default::default();
        let (has_vault, leave_programs) = (Cell::new(false), false);
        Self {
            problems,
            env,
            base,
            outside,
            items,
            masks,
            hidden,
            stored,
            wanted,
            has_vault,
            leave_programs,
            referred,
        }
    }

    /// Notes an effective value.
    pub(super) fn item(&self, name: impl Into<String>, value: impl Into<String>, from: Source) {
        self.items.borrow_mut().push(Item { name: name.into(), value: value.into(), from });
    }

    /// Keeps a part of the file from being shown when problems are rendered.
    pub(super) fn mask(&self, span: Range<usize>) {
        self.masks.borrow_mut().push(span);
    }

    /// Notes every key nobody asked for, in a table where secrets belong: whoever writes
    /// `{ token = "hunter2" }` wants the problem in the log, not the password.
    pub(super) fn finish_hidden(&self, table: Table<'d>) {
        table.unasked().into_iter().for_each(|span| self.mask(span));
        table.finish();
    }

    /// The effective values, in the order of the schema.
    pub(super) fn into_items(self) -> Vec<Item> {
        let mut items = self.items.into_inner();
        items.sort_by_key(|item| schema::position(&item.name));
        items
    }

    /// The text with every masked byte replaced by `*`, so that places in it stay true.
    pub(super) fn masked_text(&self) -> String {
        let mut bytes = self.problems.text().as_bytes().to_vec();
        for span in self.masks.borrow().iter() {
            let end = span.end.min(bytes.len());
            for byte in &mut bytes[span.start.min(end)..end] {
                if !matches!(*byte, b'\n' | b'\r' | b'"' | b'\'') {
                    *byte = b'*';
                }
            }
        }
        // A span covers whole characters, so this changes nothing.
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A path as written there, made relative to the file when it stands in the file.
    pub(super) fn resolve(&self, text: &str, source: Source) -> PathBuf {
        match source {
            Source::Flag | Source::Environment => PathBuf::from(text),
            Source::File | Source::Default => self.base.join(text),
        }
    }
}

/// One section being read.
pub(super) struct Section<'s, 'd> {
    name: &'static str,
    table: Option<Table<'d>>,
    pub(super) sources: &'s Sources<'d>,
}

impl<'s, 'd> Section<'s, 'd> {
    /// The section `name` of the file, which need not be there.
    pub(super) fn open(sources: &'s Sources<'d>, root: &mut Table<'d>, name: &'static str) -> Self {
        Self { name, table: root.take(name).and_then(Value::table), sources }
    }

    /// The section whose table this is, such as one within another section.
    pub(super) fn over(sources: &'s Sources<'d>, table: Option<Table<'d>>, name: &'static str) -> Self {
        Self { name, table, sources }
    }

    /// Takes a key that only the file can give.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Value<'d>> {
        self.table.as_mut().and_then(|table| table.take(key))
    }

    /// The section as a whole, or the start of the file.
    pub(super) fn place(&self) -> Place {
        let span = self.table.as_ref().map_or(0..0, Table::site);
        self.sources.problems.place(span, self.name)
    }

    /// Reads `key` from every origin; the strongest one that is present counts.
    pub(super) fn setting<T>(
        &mut self,
        key: &'static str,
        default: impl FnOnce() -> T,
        show: impl FnOnce(&T) -> String,
        read: impl Fn(Value<'d>, Source) -> Option<T>,
    ) -> Setting<T> {
        let name = format!("{}.{key}", self.name);
        let mut values = self.sources.outside.borrow_mut().remove(name.as_str()).unwrap_or_default();
        values.extend(self.take(key).map(|value| (Source::File, value)));
        let mut first = None;
        for (source, value) in values {
            let place = value.place();
            let value = read(value, source);
            first.get_or_insert((source, place, value));
        }
        let (source, place, value) = first.unwrap_or_else(|| (Source::Default, self.place(), None));
        // A value that cannot be read was noted; the default only lets the reading go on.
        let value = value.unwrap_or_else(default);
        self.sources.item(name, show(&value), source);
        Setting { value, place }
    }

    /// A duration within `range`.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let show = |value: &Duration| humantime::format_duration(*value).to_string();
        self.setting(key, || default, show, |value, _| value.duration(range.clone())).value
    }

    /// A whole number within `range`, which holds nothing below 0.
    pub(super) fn number(&mut self, key: &'static str, default: usize, range: RangeInclusive<i64>) -> usize {
        let read = |value: Value<'d>, _| usize::try_from(value.integer(range.clone())?).ok();
        self.setting(key, || default, ToString::to_string, read).value
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, key: &'static str, default: bool) -> Setting<bool> {
        self.setting(key, || default, ToString::to_string, |value, _| value.boolean())
    }

    /// A path; `default` is relative to the config file.
    pub(super) fn path(&mut self, key: &'static str, default: &str) -> PathBuf {
        let sources = self.sources;
        let read = |value: Value<'d>, source| {
            let text = value.parsed("write a path, relative to this file or absolute", not_empty)?;
            Some(sources.resolve(&text, source))
        };
        let show = |path: &PathBuf| path.display().to_string();
        self.setting(key, || sources.resolve(default, Source::Default), show, read).value
    }

    /// A list of `T`; a wrong element is noted and left out.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        default: impl FnOnce() -> Vec<T>,
        show: impl Fn(&T) -> String,
        read: impl Fn(Value<'d>) -> Option<T>,
    ) -> Setting<Vec<T>> {
        let show = |list: &Vec<T>| show_list(list.iter().map(&show));
        self.setting(key, default, show, |value, _| {
            Some(value.array()?.into_iter().filter_map(&read).collect())
        })
    }

    /// Notes an effective value of a key that only the file can give.
    pub(super) fn item(&self, key: &str, value: impl Into<String>, is_set: bool) {
        let from = if is_set { Source::File } else { Source::Default };
        self.sources.item(format!("{}.{key}", self.name), value, from);
    }

    /// Notes every key nobody asked for.
    pub(super) fn finish(self) {
        match self.table {
            Some(table) if matches!(self.name, "webhook" | "auth" | "alertmanager" | "vault") => {
                self.sources.finish_hidden(table)
            }
            Some(table) => table.finish(),
            None => {}
        }
    }
}

/// A text with something in it.
pub(super) fn not_empty(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() { Err("the text is empty") } else { Ok(text.to_owned()) }
}

/// A list as people write it.
pub(super) fn show_list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}
