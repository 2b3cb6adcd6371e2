//! The API as it is described: the document is OpenAPI, every example in it is answered as it says, every answer is
//! what its schema says, and the page that shows it works in a real browser.
//!
//! May import: `support`, the credentials of `identity`. Must never: take the document's word for what is answered.

mod document;
mod page;
mod rare;
mod site;
mod story;
