//! The route table: which path takes which method, from whom, with how large a body, and who answers.
//!
//! It is data; the router, the access tests and the API document are read from it, so no route can be
//! forgotten by one of them. May import: `auth` (the permission). Must never: answer a request itself.

use super::{ApiError, Budget, Reply, Request};
use crate::auth::Permission;
use futures_util::future::{BoxFuture, FutureExt as _};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

/// A method a route may take. HEAD is served wherever GET is; nothing else exists here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// Read; also serves HEAD.
    Get,
    /// Do, or create.
    Post,
    /// Set.
    Put,
    /// Change in part.
    Patch,
    /// Remove.
    Delete,
}

impl Method {
    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// The method of a request and whether it is HEAD; `None` for one that no route can take.
    pub(super) fn read(method: &hyper::Method) -> Option<(Self, bool)> {
        Some(match *method {
            hyper::Method::GET => (Self::Get, false),
            hyper::Method::HEAD => (Self::Get, true),
            hyper::Method::POST => (Self::Post, false),
            hyper::Method::PUT => (Self::Put, false),
            hyper::Method::PATCH => (Self::Patch, false),
            hyper::Method::DELETE => (Self::Delete, false),
            _ => return None,
        })
    }
}

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody; no credential is looked at.
    Open,
    /// Anybody, but no page of another site: what signs in leaves a cookie behind.
    OwnPages,
    /// Whoever is known; no permission is needed for what is one's own.
    SignedIn,
    /// Holders of a webhook credential, and nobody else.
    Webhook,
    /// People and programs with this permission.
    Needs(Permission),
}

/// How large a body a route takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLimit {
    /// None: what is sent is not read, and the connection is closed behind the answer.
    None,
    /// At most so many bytes.
    Json(u64),
    /// As many as [`super::Limits::max_webhook_body`].
    Webhook,
}

/// What answers a request. It runs in a task of its own: a client that hangs up cannot cancel it half-way.
pub type Handler = Arc<dyn Fn(Request) -> BoxFuture<'static, Result<Reply, ApiError>> + Send + Sync>;

/// Makes a [`Handler`] of an async function.
pub fn handler<F, A>(answer: F) -> Handler
where
    F: Fn(Request) -> A + Send + Sync + 'static,
    A: Future<Output = Result<Reply, ApiError>> + Send + 'static,
{
    Arc::new(move |request| answer(request).boxed())
}

/// One route.
#[derive(Clone)]
pub struct Route {
    /// The methods it takes.
    pub methods: &'static [Method],
    /// The path in matchit's syntax, such as `/api/executions/{id}`; also the label in metrics.
    pub path: &'static str,
    /// Whether the path with a slash behind it is the same route. There is never a redirect.
    pub trailing_slash: bool,
    /// Who may use it.
    pub access: Access,
    /// The body it takes.
    pub limit: BodyLimit,
    /// Who answers.
    pub handler: Handler,
}

impl Route {
    /// Whether it says that the program lives: always open, and answered when nothing else is.
    pub(super) fn is_health(&self) -> bool {
        matches!(self.path, "/health" | "/-/healthy" | "/-/ready")
    }

    /// Whether it is open only as long as no users are named in `--web.config.file`.
    pub(super) fn is_for_users(&self) -> bool {
        self.access == Access::Open
            && (matches!(self.path, "/metrics" | "/-/reload") || self.path.starts_with("/docs/"))
    }

    /// What a request on it is counted as; `None` where a limit would cost alerts, sight or the kill switch, which must
    /// be there also for whoever has just stopped sixty executions one by one.
    pub(super) fn budget(&self, method: Method) -> Option<Budget> {
        match (self.access, method, self.path) {
            (Access::Webhook, ..) | (_, _, "/metrics") | (_, Method::Put, "/api/automation") => None,
            _ if self.is_health() => None,
            (_, Method::Post, "/api/executions/{id}/stop" | "/api/executions/{id}/control") => {
                Some(Budget::Brake)
            }
            (
                _,
                Method::Post,
                "/api/runbooks/{id}" | "/api/runbooks/{id}/execute" | "/api/notifiers/{name}/test",
            ) => Some(Budget::Executions),
            _ => Some(Budget::Requests),
        }
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Route({:?} {} {:?} {:?})", self.methods, self.path, self.access, self.limit)
    }
}

/// Why routes do not make a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The path is not one matchit understands, or it overlaps another.
    #[error("the route {path} cannot be added: {why}")]
    Path {
        /// The path.
        path: &'static str,
        /// What matchit says.
        why: String,
    },
    /// Two routes take the same method on the same path.
    #[error("{method} {path} is in the table twice")]
    Twice {
        /// The method.
        method: &'static str,
        /// The path.
        path: &'static str,
    },
    /// A route without methods could never be reached.
    #[error("the route {0} takes no method")]
    NoMethod(&'static str),
    /// A webhook route that takes GET would answer 2xx to a sender whose POST was redirected somewhere on the
    /// way, and the alert would be lost.
    #[error("the webhook route {0} must not take GET")]
    WebhookGet(&'static str),
}

/// All routes, and the way from a path to one of them.
#[derive(Debug)]
pub struct Table {
    routes: Vec<Route>,
    router: matchit::Router<usize>,
    /// Routes that share a path, by the number in the router.
    paths: Vec<Vec<usize>>,
}

/// What a method and a path lead to.
pub(super) enum Found<'t> {
    /// A route, and its parameters as they stand in the path.
    Route(&'t Route, Vec<(String, String)>),
    /// The path exists, for these methods.
    OtherMethods(String),
    /// No such path.
    Nothing,
}

impl Table {
    /// A table of these routes.
    ///
    /// # Errors
    /// [`TableError`] for the first route that does not fit.
    pub fn new(routes: Vec<Route>) -> Result<Self, TableError> {
        let mut table = Self { routes: Vec::new(), router: matchit::Router::new(), paths: Vec::new() };
        let mut known = HashMap::new();
        for route in routes {
            table.add(route, &mut known)?;
        }
        Ok(table)
    }

    fn add(&mut self, route: Route, known: &mut HashMap<String, usize>) -> Result<(), TableError> {
        let path = route.path;
        if route.methods.is_empty() {
            return Err(TableError::NoMethod(path));
        }
        if route.access == Access::Webhook && route.methods.contains(&Method::Get) {
            return Err(TableError::WebhookGet(path));
        }
        let mut spellings = vec![path.to_owned()];
        if route.trailing_slash && !path.ends_with('/') {
            spellings.push(format!("{path}/"));
        }
        for spelling in spellings {
            let number = match known.get(&spelling) {
                Some(number) => *number,
                None => {
                    let number = self.paths.len();
                    self.router
                        .insert(spelling.clone(), number)
                        .map_err(|why| TableError::Path { path, why: why.to_string() })?;
                    self.paths.push(Vec::new());
                    known.insert(spelling, number);
                    number
                }
            };
            let twice = route.methods.iter().enumerate().find(|(at, method)| {
                route.methods[..*at].contains(method)
                    || self.paths[number].iter().any(|other| self.routes[*other].methods.contains(method))
            });
            if let Some((_, method)) = twice {
                return Err(TableError::Twice { method: method.as_str(), path });
            }
            self.paths[number].push(self.routes.len());
        }
        self.routes.push(route);
        Ok(())
    }

    /// Every route, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }

    /// Every method any route takes, as the value of `Allow`.
    pub(super) fn all_methods(&self) -> String {
        Self::allow(self.routes.iter())
    }

    pub(super) fn find(&self, method: Option<(Method, bool)>, path: &str) -> Found<'_> {
        let Ok(hit) = self.router.at(path) else {
            return Found::Nothing;
        };
        let here = || self.paths[*hit.value].iter().map(|number| &self.routes[*number]);
        let route = method.and_then(|(method, _)| here().find(|route| route.methods.contains(&method)));
        match route {
            Some(route) => {
                let params =
                    hit.params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                Found::Route(route, params)
            }
            None => Found::OtherMethods(Self::allow(here())),
        }
    }

    fn allow<'r>(routes: impl Iterator<Item = &'r Route>) -> String {
        let mut methods: Vec<Method> = routes.flat_map(|route| route.methods.iter().copied()).collect();
        methods.sort_unstable();
        methods.dedup();
        let mut words: Vec<&str> = methods.iter().map(|method| method.as_str()).collect();
        if methods.first() == Some(&Method::Get) {
            words.insert(1, "HEAD");
        }
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(methods: &'static [Method], path: &'static str) -> Route {
        Route {
            methods,
            path,
            trailing_slash: false,
            access: Access::Open,
            limit: BodyLimit::None,
            handler: handler(|_| async { Ok(Reply::empty()) }),
        }
    }

    fn find(table: &Table, method: &str, path: &str) -> String {
        let method = Method::read(&hyper::Method::from_bytes(method.as_bytes()).unwrap());
        match table.find(method, path) {
            Found::Route(route, params) => format!("{} {params:?}", route.path),
            Found::OtherMethods(allow) => format!("allow {allow}"),
            Found::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn a_path_leads_to_the_route_of_its_method() {
        let table = Table::new(vec![
            route(&[Method::Get], "/api/mappings"),
            route(&[Method::Put, Method::Delete], "/api/mappings/{name}"),
            route(&[Method::Get], "/api/mappings/{name}"),
            Route { trailing_slash: true, ..route(&[Method::Post, Method::Put], "/hook") },
        ])
        .unwrap();
        assert_eq!(find(&table, "GET", "/api/mappings"), "/api/mappings []");
        assert_eq!(find(&table, "HEAD", "/api/mappings"), "/api/mappings []");
        assert_eq!(find(&table, "PUT", "/api/mappings/a%2Fb"), r#"/api/mappings/{name} [("name", "a%2Fb")]"#);
        assert_eq!(find(&table, "PATCH", "/api/mappings/a"), "allow GET, HEAD, PUT, DELETE");
        assert_eq!(find(&table, "POST", "/hook/"), "/hook []");
        assert_eq!(find(&table, "HEAD", "/hook"), "allow POST, PUT");
        assert_eq!(find(&table, "BREW", "/hook/"), "allow POST, PUT");
        for path in ["/api/mappings/", "/api//mappings", "/hook//", "/", "", "*", "/api/mappings/a/b"] {
            assert_eq!(find(&table, "GET", path), "nothing", "{path}");
        }
        assert_eq!(table.all_methods(), "GET, HEAD, POST, PUT, DELETE");
        assert_eq!(table.iter().count(), 4);
    }

    #[test]
    fn routes_that_contradict_each_other_are_refused() {
        let twice = Table::new(vec![route(&[Method::Get], "/a"), route(&[Method::Get], "/a")]).unwrap_err();
        assert_eq!(twice, TableError::Twice { method: "GET", path: "/a" });
        let twice = Table::new(vec![route(&[Method::Get, Method::Get], "/a")]).unwrap_err();
        assert_eq!(twice, TableError::Twice { method: "GET", path: "/a" });
        let names = Table::new(vec![route(&[Method::Get], "/a/{x}"), route(&[Method::Put], "/a/{y}")]);
        assert!(matches!(names.unwrap_err(), TableError::Path { path: "/a/{y}", .. }));
        assert_eq!(Table::new(vec![route(&[], "/a")]).unwrap_err(), TableError::NoMethod("/a"));
        let hook = Route { access: Access::Webhook, ..route(&[Method::Get], "/hook") };
        assert_eq!(Table::new(vec![hook]).unwrap_err(), TableError::WebhookGet("/hook"));
    }
}
