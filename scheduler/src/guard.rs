//! The token check in front of gRPC and HTTP alike.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tidemill_engine::cluster::TokenGuard;

/// The one path that needs no token: a probe learns only that the process lives.
const OPEN_PATH: &str = "/healthz";

/// Lets requests with the token pass; tells others so in their own protocol.
pub(crate) async fn check(State(guard): State<TokenGuard>, request: Request, next: Next) -> Response {
    if request.uri().path() == OPEN_PATH || guard.permits(request.headers()) {
        next.run(request).await
    } else if is_grpc(&request) {
        tonic::Status::unauthenticated(TokenGuard::REFUSED).into_http::<axum::body::Body>()
    } else {
        let body = Json(json!({ "error": TokenGuard::REFUSED }));
        (StatusCode::UNAUTHORIZED, body).into_response()
    }
}

fn is_grpc(request: &Request) -> bool {
    let content = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    content.is_some_and(|c| c.starts_with("application/grpc"))
}
