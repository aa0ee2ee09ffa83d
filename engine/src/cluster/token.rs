//! The shared token: how it is read, how it travels, how it is checked.
//!
//! A client that can set headers sends `authorization: Bearer TOKEN`. Ballista's own clients (scheduler to executor,
//! executor to executor, client to executor) let us change nothing but the tonic endpoint, whose user agent travels
//! with each request: there the token is the product `tidemill-token/TOKEN`. Both are accepted on every port.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use ballista_core::extension::{EndpointOverrideFn, SessionConfigExt};
use datafusion::prelude::SessionConfig;
use tonic::codegen::http::HeaderMap;
use tonic::codegen::http::header::{AUTHORIZATION, USER_AGENT};
use tonic::service::Interceptor;
use tonic::transport::Endpoint;
use tonic::{Request, Status};

use super::ClusterError;

/// The fewest characters of a token: shorter ones are guessed.
const MIN_CHARS: usize = 16;
/// The most characters of a token: it travels with each request.
const MAX_CHARS: usize = 512;
/// The user agent's product that carries the token.
const PRODUCT: &str = "tidemill-token/";
/// The scheme of the authorization header.
const BEARER: &str = "Bearer ";

/// A secret shared by the processes of one cluster. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

impl Token {
    /// Takes a token from text, white space around it removed.
    ///
    /// # Errors
    /// When it is too short, too long, or holds characters that a header cannot carry.
    pub fn parse(text: &str) -> Result<Self, ClusterError> {
        let text = text.trim();
        let got = if !text.bytes().all(|b| b.is_ascii_graphic()) {
            "other characters".to_owned()
        } else if text.len() < MIN_CHARS || text.len() > MAX_CHARS {
            format!("{} characters", text.len())
        } else {
            return Ok(Self(text.into()));
        };
        Err(ClusterError::InvalidToken { min: MIN_CHARS, max: MAX_CHARS, got })
    }

    /// Reads a token from a file.
    ///
    /// # Errors
    /// When the file cannot be read or holds no usable token.
    pub fn read(path: &Path) -> Result<Self, ClusterError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ClusterError::TokenFile { path: path.display().to_string(), source })?;
        Self::parse(&text)
    }

    /// The value of an `authorization` header that carries this token.
    pub fn bearer(&self) -> String {
        format!("{BEARER}{}", self.0)
    }

    /// The user agent that carries this token.
    pub fn user_agent(&self) -> String {
        format!("{PRODUCT}{}", self.0)
    }

    /// Makes each request of an endpoint's channel carry this token.
    pub fn endpoint_override(&self) -> EndpointOverrideFn {
        let agent = self.user_agent();
        Arc::new(move |endpoint: Endpoint| Ok(endpoint.user_agent(agent.clone())?))
    }

    /// Makes what a session's plans connect to (scheduler, executors) receive this token.
    ///
    /// The setting stays in the process: it is not sent with the session's options.
    pub fn apply(&self, config: SessionConfig) -> SessionConfig {
        config.with_ballista_override_create_grpc_client_endpoint(self.endpoint_override())
    }

    /// Compares in a time that depends on the lengths alone.
    fn matches(&self, candidate: &str) -> bool {
        let (ours, theirs) = (self.0.as_bytes(), candidate.as_bytes());
        let difference = ours.iter().zip(theirs).fold(0u8, |acc, (a, b)| acc | (a ^ b));
        std::hint::black_box(difference) == 0 && ours.len() == theirs.len()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// Decides whether a request may pass. Without a token every request may.
///
/// It is a tonic interceptor; HTTP servers ask [`TokenGuard::permits`].
#[derive(Debug, Clone, Default)]
pub struct TokenGuard(Option<Token>);

impl TokenGuard {
    /// What a refused caller is told.
    pub const REFUSED: &'static str = "wrong or missing token; pass the cluster's token with --token-file";

    /// A guard for a token, or one that lets everything pass.
    pub fn new(token: Option<Token>) -> Self {
        Self(token)
    }

    /// Whether a request with these headers may pass.
    pub fn permits(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.0 else { return true };
        offered(headers).is_some_and(|candidate| token.matches(candidate))
    }
}

impl Interceptor for TokenGuard {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        if self.permits(request.metadata().as_ref()) {
            Ok(request)
        } else {
            Err(Status::unauthenticated(Self::REFUSED))
        }
    }
}

/// The token that a request offers: in its authorization header, else in its user agent.
fn offered(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok());
    if let Some(token) = bearer.and_then(|v| v.strip_prefix(BEARER)) {
        return Some(token.trim());
    }
    let agent = headers.get(USER_AGENT).and_then(|v| v.to_str().ok())?;
    agent.split(' ').find_map(|product| product.strip_prefix(PRODUCT))
}

#[cfg(test)]
mod tests {
    use tonic::codegen::http::HeaderValue;

    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn both_carriers_pass_and_others_do_not() {
        let token = Token::parse("correct-horse-battery").unwrap();
        let guard = TokenGuard::new(Some(token.clone()));
        assert!(guard.permits(&headers("authorization", &token.bearer())));
        let agent = format!("{} tonic/0.14.9", token.user_agent());
        assert!(guard.permits(&headers("user-agent", &agent)));

        assert!(!guard.permits(&HeaderMap::new()));
        assert!(!guard.permits(&headers("authorization", "Bearer correct-horse-batter")));
        assert!(!guard.permits(&headers("authorization", "Bearer correct-horse-battery2")));
        assert!(!guard.permits(&headers("authorization", "correct-horse-battery")));
        assert!(!guard.permits(&headers("user-agent", "tidemill-token/ tonic/0.14.9")));
        assert!(!guard.permits(&headers("user-agent", "tonic/0.14.9")));
    }

    #[test]
    fn no_token_lets_everything_pass() {
        assert!(TokenGuard::new(None).permits(&HeaderMap::new()));
    }

    #[test]
    fn unusable_tokens_are_refused_without_showing_them() {
        for text in ["", "short", "with a space in between", "naïve-naïve-naïve-naïve"] {
            let error = Token::parse(text).unwrap_err().to_string();
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
        assert_eq!(format!("{:?}", Token::parse("0123456789abcdef").unwrap()), "Token(***)");
    }
}
