//! The two pages of the booking chat, as they were built into this binary: `/chat` for clients, `/desk` for operators.

use axum::{
    Router,
    extract::Path,
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};

/// Name and content of every file; empty where the pages were not built before this binary.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/pages.rs"));

/// What a page may load and do: its own files, and this relay.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws: wss:; \
    img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Said in place of a page that was not built.
const NOT_BUILT: &str = include_str!("not_built.html");

/// The pages and their files.
pub(crate) fn router() -> Router {
    Router::new()
        .route("/chat", get(async || page("chat.html", FILES)))
        .route("/desk", get(async || page("desk.html", FILES)))
        .route(
            "/assets/{name}",
            get(async |Path(name): Path<String>| asset(&name, FILES)),
        )
}

fn find<'a>(name: &str, files: &[(&str, &'a [u8])]) -> Option<&'a [u8]> {
    let found = files.iter().find(|(known, _)| *known == name)?;
    Some(found.1)
}

fn page(name: &str, files: &'static [(&str, &[u8])]) -> Response {
    let headers = [
        // The names of its files change with them, and its own does not.
        (header::CACHE_CONTROL, "no-cache"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    match find(name, files) {
        Some(content) => (headers, Html(content)).into_response(),
        None => (StatusCode::NOT_FOUND, Html(NOT_BUILT)).into_response(),
    }
}

fn asset(name: &str, files: &'static [(&str, &[u8])]) -> Response {
    let Some(content) = find(&format!("assets/{name}"), files) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, content_type(name)),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, content).into_response()
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.') {
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILT: &[(&str, &[u8])] = &[
        ("chat.html", b"<!doctype html>"),
        ("assets/chat-1.js", b"1"),
        ("assets/page-2.css", b"2"),
    ];

    fn header(response: &Response, name: header::HeaderName) -> &str {
        response.headers()[name].to_str().unwrap()
    }

    #[test]
    fn a_page_is_looked_at_again_and_its_files_are_kept() {
        let served = page("chat.html", BUILT);
        assert_eq!(served.status(), StatusCode::OK);
        assert_eq!(header(&served, header::CACHE_CONTROL), "no-cache");
        assert!(header(&served, header::CONTENT_TYPE).starts_with("text/html"));
        let script = asset("chat-1.js", BUILT);
        assert!(header(&script, header::CACHE_CONTROL).ends_with("immutable"));
        assert!(header(&script, header::CONTENT_TYPE).starts_with("text/javascript"));
        let style = asset("page-2.css", BUILT);
        assert!(header(&style, header::CONTENT_TYPE).starts_with("text/css"));
    }

    #[test]
    fn nothing_else_is_served() {
        for name in ["chat-2.js", "../chat.html", "", "page-2.css/"] {
            assert_eq!(asset(name, BUILT).status(), StatusCode::NOT_FOUND, "{name}");
        }
    }

    #[test]
    fn a_page_that_was_not_built_says_how_to_build_it() {
        assert_eq!(page("chat.html", &[]).status(), StatusCode::NOT_FOUND);
        assert!(NOT_BUILT.contains("scripts/pages"));
    }
}
