use super::*;

fn archive(dest: Dest) -> Archive {
    Archive {
        dest,
        names: None,
        encoding: Encoding::default(),
    }
}

#[test]
fn the_outputs_of_the_manual_are_read() {
    let file = |path: &str| Dest::File(path.into());
    for (text, output) in [
        (
            "type=oci,dest=hello.tar",
            Output::Oci(archive(file("hello.tar"))),
        ),
        ("type=oci", Output::Oci(archive(Dest::Stdout))),
        ("TYPE=oci,Dest=-", Output::Oci(archive(Dest::Stdout))),
        (
            "type=oci,tar=false,dest=d",
            Output::Oci(archive(Dest::Directory("d".into()))),
        ),
        (
            "type=docker,\"dest=a,b\"\"c.tar\"",
            Output::Docker(archive(file("a,b\"c.tar"))),
        ),
        ("type=docker,dest=-", Output::Docker(archive(Dest::Stdout))),
        ("type=image", Output::local_store()),
        ("type=cacheonly", Output::CacheOnly),
    ] {
        assert_eq!(Output::parse(text), Ok(output), "{text}");
    }
}

#[test]
fn a_registry_output_is_an_image_that_is_pushed() {
    let Ok(Output::Image(image)) = Output::parse("type=registry,\"name=a:1,h:5/b\"") else {
        panic!("not an image");
    };
    assert!(image.push);
    assert!(!image.keeps());
    let names = image.names.unwrap();
    assert_eq!(names[0].to_string(), "docker.io/library/a:1");
    assert_eq!(names[1].to_string(), "h:5/b:latest");
    assert_eq!(
        Output::parse("type=image,push=true"),
        Output::parse("type=registry")
    );
    let Ok(Output::Image(both)) = Output::parse("type=image,push=1,store=true") else {
        panic!("not an image");
    };
    assert!(both.push && both.keeps());
}

#[test]
fn push_makes_every_image_pushed_and_adds_one_where_there_is_none() {
    let mut outputs = vec![Output::parse("type=oci,dest=x").unwrap()];
    Output::push_all(&mut outputs);
    assert_eq!(outputs.len(), 2);
    assert!(matches!(&outputs[1], Output::Image(image) if image.push && !image.keeps()));
    let mut outputs = vec![Output::local_store()];
    Output::push_all(&mut outputs);
    assert!(matches!(outputs.as_slice(), [Output::Image(image)] if image.push));
}

#[test]
fn compression_and_families_are_read() {
    let encoding =
        |text: &str| Output::parse(text).map(|output| output.encoding().unwrap().clone());
    assert_eq!(
        encoding("type=oci,dest=x,compression=zstd,compression-level=22").unwrap(),
        Encoding {
            family: Family::Oci,
            format: Format::Zstd,
            level: Some(22),
            ..Encoding::default()
        }
    );
    assert_eq!(
        encoding("type=image,oci-mediatypes=false").unwrap().family,
        Family::Docker
    );
    for wrong in [
        "type=oci,dest=x,compression-level=10",
        "type=oci,dest=x,compression-level=x",
        "type=oci,dest=x,compression=uncompressed,compression-level=1",
        "type=oci,dest=x,compression=lzma",
        "type=oci,dest=x,oci-mediatypes=false",
        "type=image,push=maybe",
        "type=image,push=",
    ] {
        assert!(
            matches!(
                encoding(wrong),
                Err(OutputError::Value { .. } | OutputError::Level(_))
            ),
            "{wrong}"
        );
    }
}

#[test]
fn what_is_wrong_is_named_with_the_way_out() {
    for (text, message, help) in [
        ("dest=x", "type is required for output", Some("for example")),
        (
            "type=ocy,dest=x",
            "unknown output type `ocy`",
            Some("`oci`"),
        ),
        ("type=", "unknown output type ``", None),
        (
            "type=oci,destination=x",
            "unknown attribute `destination` of output type `oci`",
            None,
        ),
        (
            "type=image,pusch=true",
            "unknown attribute `pusch` of output type `image`",
            Some("`push`"),
        ),
        (
            "type=oci,dest=x,annotation-x.a=b",
            "unrecognized annotation type x",
            Some("manifest-descriptor"),
        ),
        (
            "type=image,oci-artifact=true",
            "`oci-artifact=true` of output type `image` is not supported yet",
            None,
        ),
        (
            "type=image,compression=estargz,oci-mediatypes=false",
            "exporter option \"compression=estargz\" conflicts with \"oci-mediatypes=false\"",
            None,
        ),
        ("type=local", "dest is required for local exporter", None),
        (
            "type=local,dest=-",
            "dest cannot be stdout for local exporter",
            Some("-o -"),
        ),
        (
            "type=local,dest=x,name=a",
            "unknown attribute `name` of output type `local`",
            None,
        ),
        (
            "type=tar,platform-spilt=true",
            "unknown attribute `platform-spilt` of output type `tar`",
            Some("`platform-split`"),
        ),
        ("", "type is required for output", Some("for example")),
        (
            "type=oci,dest",
            "invalid output: `dest` is not of the form key=value",
            Some("for example"),
        ),
        (
            "type=oci,dest=a\"b",
            "invalid output `type=oci,dest=a\"b`: misplaced `\"`",
            Some("quote"),
        ),
        (
            "type=oci,\"dest=a",
            "invalid output `type=oci,\"dest=a`: misplaced `\"`",
            Some("quote"),
        ),
        (
            "type=image,name=a/B",
            "invalid output name `a/B`: invalid reference format: repository name (a/B) must be lowercase",
            None,
        ),
        (
            "type=oci,tar=false",
            "dest is required for oci exporter with tar=false",
            None,
        ),
    ] {
        let error = Output::parse(text).unwrap_err();
        assert_eq!(error.to_string(), message, "{text}");
        match (help, error.help()) {
            (None, None) => {}
            (Some(part), Some(help)) => assert!(help.contains(part), "{text}: {help}"),
            (_, other) => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn values_that_ask_for_what_happens_anyway_are_accepted() {
    assert_eq!(
        Output::parse("type=image,unpack=false,attestation-inline=0,oci-artifact=false"),
        Ok(Output::local_store())
    );
    assert!(Output::parse("type=cacheonly,unpack=false").is_err());
}

#[test]
fn c01_a_word_alone_is_a_directory_of_files() {
    let directory = |path: &str, others| {
        let path = path.into();
        Output::Files(Files {
            dest: FilesDest::Directory { path, others },
            split: None,
            epoch: None,
        })
    };
    assert_eq!(Output::parse("out"), Ok(directory("out", Others::Keep)));
    assert_eq!(
        Output::parse("type=local,dest=out,mode=delete"),
        Ok(directory("out", Others::Delete))
    );
    let stdout = Output::Files(Files {
        dest: FilesDest::Stdout,
        split: None,
        epoch: None,
    });
    for text in ["-", "type=tar", "type=tar,dest=-"] {
        assert_eq!(Output::parse(text), Ok(stdout.clone()), "{text}");
    }
    let Ok(Output::Image(image)) = Output::parse("type=image") else {
        panic!("not an image");
    };
    assert!(!image.push);
}

#[test]
fn attributes_of_images_are_read() {
    let text = "type=image,name=a,push-by-digest=true,name-canonical=true,push=true,\
                registry.insecure=true,dangling-name-prefix=p,danging-name-empty-only=1,\
                unpack=true,force-compression=true,prefer-nondist-layers=true,\
                rewrite-timestamp=false,source-date-epoch=5,annotation.Org.key=v,\
                annotation-manifest[linux/arm64].k=v";
    let Output::Image(image) = Output::parse(text).unwrap() else {
        panic!("not an image");
    };
    assert!(image.push && image.by_digest && image.canonical && image.insecure && image.unpack);
    let dangling = image.dangling_name.unwrap();
    assert!(dangling.only_unnamed);
    assert_eq!(dangling.prefix.name(), "docker.io/library/p");
    let encoding = image.encoding;
    assert_eq!(encoding.bases, Conversion::Convert);
    assert_eq!(encoding.foreign, Foreign::Keep);
    assert_eq!(encoding.times, Times::Keep);
    assert_eq!(encoding.epoch, Some(5));
    let keys: Vec<&str> = encoding
        .annotations
        .iter()
        .map(|a| a.key.as_str())
        .collect();
    assert_eq!(keys, ["Org.key", "k"]);
}

#[test]
fn docker_without_a_place_is_loaded() {
    for text in ["type=docker", "type=docker,dest=", "type=docker,context=c"] {
        assert!(matches!(Output::parse(text), Ok(Output::Load(_))), "{text}");
    }
    assert!(Output::parse("type=docker,dest=x,context=c").is_err());
    let mut outputs = vec![Output::parse("type=docker,dest=x").unwrap()];
    Output::load(&mut outputs);
    Output::load(&mut outputs);
    assert!(matches!(
        outputs.as_slice(),
        [Output::Docker(_), Output::Load(_)]
    ));
}

#[test]
fn digests_are_not_names_to_give() {
    let text = format!("type=image,name=a@sha256:{}", "0".repeat(64));
    assert!(matches!(
        Output::parse(&text),
        Err(OutputError::NameWithDigest { .. })
    ));
}
