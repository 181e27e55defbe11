//! Lists of tags: several pages, and those that never end.

use rbuild_registry::ResolveErrorKind;

use crate::client;
use crate::server::{Reply, Server};

#[tokio::test]
async fn pages_are_joined() {
    let server = Server::start(|asked, _| match asked.target.as_str() {
        "/v2/x/tags/list" => Reply::ok(r#"{"name":"x","tags":["b","c"]}"#)
            .header("Link", "</v2/x/tags/list?last=c&n=2>; rel=\"next\""),
        _ => Reply::ok(r#"{"name":"x","tags":["a"]}"#),
    })
    .await;
    let tags = client().tags(&server.reference("x:1")).await.unwrap();
    assert_eq!(tags, ["a", "b", "c"]);
    let none = Server::start(|_, _| Reply::ok(r#"{"name":"x","tags":null}"#)).await;
    assert!(
        client()
            .tags(&none.reference("x"))
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn r18_a_list_of_tags_without_end_is_given_up() {
    let server = Server::start(|_, _| {
        Reply::ok(r#"{"tags":["a"]}"#).header("Link", "</v2/x/tags/list?more>; rel=\"next\"")
    })
    .await;
    let error = client().tags(&server.reference("x:1")).await.unwrap_err();
    assert!(
        matches!(error.kind, ResolveErrorKind::Endless { .. }),
        "{error}"
    );
    assert_eq!(server.asked().len(), 1000);
}

#[tokio::test]
async fn r05_the_next_page_is_not_fetched_from_another_server() {
    let other = Server::start(|_, _| Reply::ok(r#"{"tags":["z"]}"#)).await;
    let link = format!("<{}>; rel=next", other.url("/v2/x/tags/list"));
    let server =
        Server::start(move |_, _| Reply::ok(r#"{"tags":["a"]}"#).header("Link", &link)).await;
    let error = client().tags(&server.reference("x:1")).await.unwrap_err();
    assert!(error.to_string().contains("another server"), "{error}");
    assert!(other.asked().is_empty());
}
