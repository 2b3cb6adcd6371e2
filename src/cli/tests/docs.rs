//! Every command line of the guides is one that this program takes, word by word.

use crate::cli::args;
use clap::error::ErrorKind;
use std::ffi::OsString;

const GUIDES: [(&str, &str); 4] = [
    ("README.md", include_str!("../../../README.md")),
    ("SRE.md", include_str!("../../../SRE.md")),
    ("MIGRATION.md", include_str!("../../../MIGRATION.md")),
    ("runbooks/README.md", include_str!("../../../runbooks/README.md")),
];

/// What ends a command of a shell.
const ENDS: &[char] = &['|', ';', '&', '(', ')', '{', '}', '\n'];
/// After these words of a shell another command begins.
const BEFORE: &[&str] = &["do", "until", "while", "if", "then", "!"];

/// The commands in `text`, each as its words: enough of a shell's rules for what a guide shows.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let (mut word, mut quote, mut redirected) = (None::<String>, None, false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let at_word = word.is_none();
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '\\') if chars.next_if_eq(&'\n').is_some() => continue,
            (None, '#') if at_word => {
                while chars.next_if(|c| *c != '\n').is_some() {}
                continue;
            }
            // `$(…)` is a command too, and what is around it takes its answer.
            (None, '$') if chars.peek() == Some(&'(') => {
                word.get_or_insert_default().push('$');
                continue;
            }
            (None, '<' | '>') => {
                // The number of a descriptor is no word, nor is a file.
                word = word.filter(|word| !word.chars().all(|c| c.is_ascii_digit()));
                redirected = true;
            }
            (None, c) if ENDS.contains(&c) || c.is_whitespace() => {}
            (_, c) => {
                word.get_or_insert_default().push(c);
                continue;
            }
        }
        if quote.is_some() || (matches!(c, '\'' | '"') && quote.is_none()) {
            word.get_or_insert_default();
            continue;
        }
        let command = commands.last_mut().unwrap();
        match word.take() {
            Some(word) if command.is_empty() && (BEFORE.contains(&&*word) || is_assignment(&word)) => {}
            // What a function of the shell was given is known to nobody here.
            Some(word) if !redirected && word != "$@" => command.push(word),
            _ => {}
        }
        if ENDS.contains(&c) {
            redirected = false;
            commands.push(Vec::new());
        }
    }
    commands.last_mut().unwrap().extend(word.filter(|_| !redirected));
    commands.retain(|command| command.first().is_some_and(|program| program == "runbookd"));
    commands
}

fn is_assignment(word: &str) -> bool {
    let name = word.split_once('=').map(|(name, _)| name).unwrap_or_default();
    !name.is_empty() && name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
}

/// Whether a word stands for what a reader puts there.
fn is_placeholder(word: &str) -> bool {
    word.starts_with('$') || word.contains('…') || word.chars().all(|c| c.is_ascii_uppercase())
}

/// Why this program would not take `command`; nothing where it would. In the text a command may stand for itself,
/// without what it needs.
fn refusal(command: &[String], in_text: bool) -> Option<String> {
    let error = args::parse(command.iter().map(OsString::from)).err()?;
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => None,
        ErrorKind::MissingRequiredArgument if in_text => None,
        ErrorKind::ValueValidation if command.iter().any(|word| is_placeholder(word)) => None,
        _ => Some(format!("{}: {error}", command.join(" "))),
    }
}

/// The blocks that are typed into a shell, and what is set as code in the text beside them.
fn shown(text: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut blocks, mut inline) = (Vec::new(), Vec::new());
    for (index, part) in text.split("\n```").enumerate() {
        match part.split_once('\n') {
            Some((info, block)) if index % 2 == 1 => {
                if info == "sh" || info == "sh test" {
                    blocks.push(block);
                }
            }
            _ => inline.extend(part.split('`').skip(1).step_by(2)),
        }
    }
    (blocks, inline)
}

#[test]
fn every_command_line_of_the_guides_is_one_that_is_taken() {
    let mut count = 0;
    let mut wrong = Vec::new();
    for (name, text) in GUIDES {
        let (blocks, inline) = shown(text);
        for (text, in_text) in
            blocks.into_iter().map(|block| (block, false)).chain(inline.into_iter().map(|code| (code, true)))
        {
            // The program's bare name is no command line, and `VERB` stands for any of them.
            let is_whole =
                |command: &&Vec<String>| command.len() > 1 && !command.iter().any(|word| word == "VERB");
            for command in commands(text).iter().filter(is_whole) {
                count += 1;
                wrong.extend(refusal(command, in_text).map(|why| format!("{name}: {why}")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 100, "only {count} were found");
}

#[test]
fn what_is_a_command_in_a_guide_is_found_and_what_is_wrong_is_refused() {
    let words = |text: &str| commands(text).iter().map(|words| words.join("|")).collect::<Vec<_>>();
    assert_eq!(
        words("A=1 runbookd serve \\\n  --x=y > log 2>&1 &\nuntil runbookd status; do :; done"),
        ["runbookd|serve|--x=y", "runbookd|status"]
    );
    assert_eq!(
        words("id=$(runbookd halt --reason 'a b' | head) # runbookd no"),
        ["runbookd|halt|--reason|a b"]
    );
    assert_eq!(words("install runbookd /usr/bin/runbookd"), Vec::<String>::new());
    let refused = |text: &str| refusal(&commands(text)[0], false).is_some();
    assert!(refused("runbookd halt"), "a reason is missing");
    assert!(refused("runbookd executions list --state running"), "no such flag");
    assert!(refused("runbookd executions stop web-1 --reason x"), "no id, and no word that stands for one");
    assert!(!refused("runbookd executions stop ID --reason x"));
}
