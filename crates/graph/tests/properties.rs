//! What holds for every Dockerfile, whatever is in it.

#![expect(clippy::unwrap_used, reason = "panics are how a test reports")]

extern crate rbuild_graph as graph;

use std::collections::{BTreeMap, BTreeSet};

use dockerfile::Source;
use graph::op::NetworkMode;
use graph::{
    BaseRequest, Bases, Definition, Graph, LowerErrors, Lowering, ResolvedBase, TargetPlatforms,
};
use oci::{
    BaseImage, BaseLayer, Descriptor, DiffId, Digest, ImageConfig, MediaType, Platform, Raw,
};
use proptest::prelude::*;

/// Lines that do something worth combining: stages that need each other, arguments that fork
/// platforms, triggers.
const LINES: &[&str] = &[
    "FROM scratch",
    "FROM alpine AS a",
    "FROM a",
    "FROM a AS b",
    "FROM $IMAGE AS c",
    "FROM --platform=$BUILDPLATFORM alpine AS n",
    "FROM --platform=linux/arm/v7 b",
    "FROM trigger AS t",
    "ARG IMAGE=alpine",
    "ARG TARGETARCH",
    "ARG A=$IMAGE B",
    "ENV A=1 B=${A:-x}",
    "ENV PATH=",
    "RUN echo $A",
    "RUN --mount=type=cache,target=c --mount=type=bind,from=a,target=/m true",
    "RUN --mount=type=secret,id=s,env=A true",
    "RUN <<EOF\n#!/bin/sh\nEOF",
    "COPY . .",
    "COPY --from=a /x /y",
    "COPY --from=b /x /y",
    "COPY --from=1 /x /y",
    "COPY --from=alpine --chown=u /x /y",
    "COPY --link <<E f /$A/\n$B\nE",
    "ADD http://h/x *.tar /z",
    "WORKDIR ../w",
    "USER $A",
    "CMD x",
    "ENTRYPOINT [\"y\"]",
    "EXPOSE 80 $B",
    "VOLUME $A",
    "ONBUILD COPY --from=b / /",
    "ONBUILD RUN $A",
    "LABEL $A=$B",
];

fn definition(platforms: &[&str], args: &BTreeMap<String, String>) -> Definition {
    let platforms: Vec<Platform> = platforms.iter().map(|text| text.parse().unwrap()).collect();
    Definition {
        platforms: match platforms.as_slice() {
            [] => TargetPlatforms::Native,
            _ => TargetPlatforms::Explicit(platforms),
        },
        build_platform: "linux/amd64".parse().unwrap(),
        target: None,
        build_args: args.clone(),
        labels: BTreeMap::new(),
        contexts: BTreeMap::new(),
        network: NetworkMode::Default,
        entitlements: Default::default(),
        provisions: Default::default(),
        source_date_epoch: None,
    }
}

/// Every image exists for every platform; those called `trigger` have one.
fn resolve(request: &BaseRequest) -> ResolvedBase {
    let mut config = ImageConfig::default();
    config.set_platform(&request.platform);
    if request.source.to_string().contains("trigger") {
        config.config.on_build = vec!["COPY --from=a /t /t".to_owned()];
    }
    let digest = Digest::of(format!("{request:?}").as_bytes());
    let media_type: MediaType = "application/vnd.oci.image.layer.v1.tar+gzip"
        .parse()
        .unwrap();
    ResolvedBase {
        image: BaseImage {
            source: request.source.clone(),
            resolved: digest,
            config: Raw::parse(serde_json::to_vec(&config).unwrap()).unwrap(),
            layers: vec![BaseLayer {
                descriptor: Descriptor::new(media_type, digest, 1),
                diff_id: DiffId(digest),
                source: request.source.clone(),
            }],
        },
        platform: request.platform.clone(),
    }
}

/// Lowers `text`; `None` if it does not parse.
fn lower(text: &str, definition: &Definition) -> Option<Result<Graph, LowerErrors>> {
    let source = Source::new("Dockerfile", text);
    let dockerfile = dockerfile::parse(&source).ok()?;
    let mut bases = Bases::new();
    loop {
        match graph::lower(definition, &dockerfile, &source, &bases) {
            Ok(Lowering::Graph(graph)) => return Some(Ok(graph)),
            Err(error) => return Some(Err(error)),
            Ok(Lowering::Epoch(source)) => panic!("no epoch was asked for: {source:?}"),
            Ok(Lowering::Missing(missing)) => {
                assert!(!missing.is_empty(), "nothing is missing");
                for request in missing {
                    let base = resolve(&request);
                    assert!(bases.insert(request, base).is_none(), "asked twice");
                }
            }
        }
    }
}

fn file() -> impl Strategy<Value = String> {
    let line = prop::sample::select(LINES);
    prop::collection::vec(line, 0..24)
        .prop_map(|lines| format!("FROM alpine AS a\n{}", lines.join("\n")))
}

proptest! {
    #[test]
    fn a_graph_is_whole_ordered_and_needed(text in file(), value in "[a-z]{1,3}[a-z0-9:/$ ]{0,3}") {
        let args = BTreeMap::from([("IMAGE".to_owned(), value)]);
        let definition = definition(&["linux/amd64", "linux/arm64"], &args);
        let Some(Ok(graph)) = lower(&text, &definition) else {
            return Ok(());
        };
        let mut known = BTreeSet::new();
        for vertex in &graph.vertices {
            for input in vertex.op.inputs() {
                prop_assert!(known.contains(&input), "an input comes later or not at all");
            }
            prop_assert!(known.insert(vertex.id), "a vertex is there twice");
        }
        let mut needed: BTreeSet<_> = graph.images.iter().filter_map(|image| image.root).collect();
        for vertex in graph.vertices.iter().rev() {
            prop_assert!(needed.contains(&vertex.id), "nobody needs {}", vertex.name);
            needed.extend(vertex.op.inputs());
        }
    }

    #[test]
    fn a_platform_is_built_the_same_alone_and_in_company(text in file()) {
        let args = BTreeMap::from([("IMAGE".to_owned(), "alpine".to_owned())]);
        let alone = lower(&text, &definition(&["linux/arm64"], &args));
        let both = lower(&text, &definition(&["linux/amd64", "linux/arm64"], &args));
        let (Some(Ok(alone)), Some(Ok(both))) = (alone, both) else {
            return Ok(());
        };
        prop_assert_eq!(alone.images[0].root, both.images[1].root);
        prop_assert_eq!(&alone.images[0].config, &both.images[1].config);
        prop_assert_eq!(&alone.images[0].history, &both.images[1].history);
    }

    #[test]
    fn any_text_is_lowered_or_refused(text in "(?s).{0,200}") {
        drop(lower(&format!("FROM alpine\n{text}"), &definition(&[], &BTreeMap::new())));
    }
}
