//! The tags of a repository, page by page and never without end.

use oci::Reference;
use reqwest::header::LINK;
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use crate::client::Client;
use crate::endpoint::Endpoint;
use crate::host::same_origin;
use crate::pull::{ResolveError, ResolveErrorKind, document};
use crate::request::{Request, RequestError, RequestErrorKind, Target};
use crate::retry::Backoff;

/// How many entries a listing may have; a server that goes on has something else in mind.
pub(crate) const MAX_ENTRIES: usize = 100_000;
/// How many pages it may have.
pub(crate) const MAX_PAGES: usize = 1000;
/// How long one page may be.
pub(crate) const PAGE_LIMIT_BYTES: u64 = 4 << 20;

#[derive(Deserialize)]
struct Page {
    // Registries that have no tags any more say `null`.
    tags: Option<Vec<String>>,
}

impl Client {
    /// Returns the tags of the repository of `reference`, sorted.
    ///
    /// # Errors
    ///
    /// There is no such repository, the registry does not let us or does not answer, or its answer
    /// is not a list of tags or has no end.
    pub async fn tags(&self, reference: &Reference) -> Result<Vec<String>, ResolveError> {
        let tags = self.all_tags(reference).await;
        let mut tags = tags.map_err(|kind| kind.of_reference(reference))?;
        tags.sort();
        tags.dedup();
        Ok(tags)
    }

    async fn all_tags(&self, reference: &Reference) -> Result<Vec<String>, ResolveErrorKind> {
        let mut tags = Vec::new();
        let mut next = None;
        for _ in 0..MAX_PAGES {
            let (page, link) = self.tag_page(reference, next).await?;
            tags.extend(page);
            if tags.len() > MAX_ENTRIES {
                break;
            }
            match link {
                Some(link) => next = Some(link),
                None => return Ok(tags),
            }
        }
        Err(ResolveErrorKind::Endless { what: "tags" })
    }

    async fn tag_page(
        &self,
        reference: &Reference,
        next: Option<Url>,
    ) -> Result<(Vec<String>, Option<Url>), ResolveErrorKind> {
        let mut backoff = Backoff::new(self.connections().patience);
        loop {
            match self.try_tag_page(reference, next.clone()).await {
                Ok(page) => return Ok(page),
                Err(error) => backoff.wait(error).await.map_err(document::kind_of)?,
            }
        }
    }

    async fn try_tag_page(
        &self,
        reference: &Reference,
        next: Option<Url>,
    ) -> Result<(Vec<String>, Option<Url>), RequestError> {
        let endpoint = Endpoint::origin(self.connections(), reference).await?;
        let url = next.unwrap_or_else(|| endpoint.tags());
        let request = Request::new("list tags", Method::GET, Target::named(url));
        let response = self
            .call(&endpoint, &endpoint.pull_scope(), &request)
            .await?;
        if response.status() != StatusCode::OK {
            return Err(response.into_error().await);
        }
        let next = next_page(&endpoint, &response)?;
        let not_tags = response.protocol_error("it is not a list of tags");
        let body = response.body(PAGE_LIMIT_BYTES).await?;
        let Ok(page) = serde_json::from_slice::<Page>(&body) else {
            return Err(not_tags);
        };
        Ok((page.tags.unwrap_or_default(), next))
    }
}

/// Returns where a listing goes on (`Link: <…>; rel="next"`), which has to be the same server.
pub(crate) fn next_page(
    endpoint: &Endpoint,
    response: &crate::connections::Response,
) -> Result<Option<Url>, RequestError> {
    let links = response.headers().get_all(LINK);
    let next = links
        .iter()
        .filter_map(|link| link.to_str().ok())
        .flat_map(|link| link.split(','))
        .find_map(|link| {
            let (address, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
            let rest = rest.replace([' ', '"'], "").to_ascii_lowercase();
            rest.contains("rel=next").then(|| address.to_owned())
        });
    let Some(next) = next else {
        return Ok(None);
    };
    match response.url().join(&next) {
        Ok(url) if same_origin(&url, &endpoint.base) => Ok(Some(url)),
        Ok(_) | Err(_) => Err(response.error(RequestErrorKind::Protocol {
            what: "its next page is on another server",
        })),
    }
}
