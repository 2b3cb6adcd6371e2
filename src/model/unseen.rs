//! Which characters hide: one list for every place that shows a stranger's words.

/// Controls (C1 among them: some terminals obey U+009B), line and paragraph separators, direction marks,
/// and what has no width: all that can make a line look like something it is not.
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}
