use serde_json::json;

use super::*;

fn fill(template: &str) -> Result<String, TemplateError> {
    let data = json!({
        "name": "docker.io/library/app:1",
        "manifest": {
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "size": 856,
            "manifests": [
                {"digest": "sha256:aa", "platform": {"os": "linux", "architecture": "amd64"}},
                {"digest": "sha256:bb", "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}},
            ],
        },
        "image": {
            "linux/arm/v7": {"os.version": "7"},
            "linux/amd64": {"config": {"Env": ["A=1", "B=2"], "WorkingDir": "/srv"}},
        },
    });
    template.parse::<Template>()?.fill(&data)
}

#[test]
fn what_people_write_on_command_lines_is_understood() {
    for (template, expected) in [
        ("{{.Name}}", "docker.io/library/app:1"),
        ("plain {{ .Manifest.Size }}B", "plain 856B"),
        ("{{json .Manifest.Size}}", "856"),
        ("{{json .Name}}", "\"docker.io/library/app:1\""),
        (
            "{{range .Manifest.Manifests}}{{.Digest}}@{{.Platform.OS}} {{end}}",
            "sha256:aa@linux sha256:bb@linux ",
        ),
        (
            "{{range .Manifest.Manifests}}{{if .Platform.Variant}}{{.Platform.Variant}}{{else if eq .Platform.Architecture \"amd64\"}}-{{end}}{{end}}",
            "-v7",
        ),
        (
            "{{range $p, $i := .Image}}{{$p}}={{$i.Config.WorkingDir}};{{end}}",
            "linux/amd64=/srv;linux/arm/v7=<no value>;",
        ),
        ("{{(index .Image \"linux/amd64\").Config.Env}}", "[A=1 B=2]"),
        (
            "{{index .Image \"linux/amd64\" \"config\" \"Env\" 1}}",
            "B=2",
        ),
        ("{{(index .Image \"linux/arm/v7\").OSVersion}}", "7"),
        (
            "{{len .Manifest.Manifests | printf \"%d of %s\" 3}}",
            "3 of 2",
        ),
        ("{{with .Nothing}}x{{else}}none{{end}}", "none"),
        (
            "{{with $m := .Manifest}}{{$m.Size}}{{.Size}}{{$.Name}}{{end}}",
            "856856docker.io/library/app:1",
        ),
        ("a {{- \" }} \" -}} b{{/* said nothing */}}", "a }} b"),
        ("{{if and .Name (not .Nothing)}}yes{{end}}", "yes"),
        (
            "{{printf \"%-4s|%3d|%q\" \"ab\" 7 \"c\"}}",
            "ab  |  7|\"c\"",
        ),
        ("{{range .Nothing}}x{{else}}empty{{end}}", "empty"),
        ("{{$x := .Name}}{{len $x}}{{println}}", "23\n"),
        ("{{.Nothing.Deeper}}", "<no value>"),
        (
            "{{join (index .Image \"linux/amd64\").Config.Env \",\"}}",
            "A=1,B=2",
        ),
        ("{{upper `x`}}{{lt 1 2}}{{ne 1 1}}", "Xtruefalse"),
    ] {
        assert_eq!(fill(template).as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn mistakes_are_named() {
    for (template, expected) in [
        ("{{.Name", "unclosed action"),
        ("{{if .Name}}x", "there is no {{end}}"),
        ("{{end}}", "nothing to end here"),
        ("{{nope .Name}}", "function \"nope\" not defined"),
        ("{{.Name.First}}", "can't evaluate field First"),
        ("{{$x}}", "undefined variable $x"),
        ("{{(.Name}}", "unclosed `(`"),
        ("{{}}", "missing value for command"),
        ("{{.Name | }}", "missing value for command"),
        ("{{range .Name}}{{end}}", "range can't iterate over"),
        ("{{template \"x\"}}", "`template` is not supported"),
        ("{{index .Manifest.Manifests 9}}", "index out of range: 9"),
        ("{{json}}", "wrong number of arguments for json"),
        ("{{\"x}}", "unclosed action"),
        ("{{.Name | .Name}}", "only functions take arguments"),
    ] {
        let error = fill(template).unwrap_err().to_string();
        assert!(error.contains(expected), "{template}: {error}");
    }
    let deep = "{{if .}}".repeat(5000) + &"{{end}}".repeat(5000);
    assert!(fill(&deep).is_err());
    let deep = format!("{{{{{}1{}}}}}", "(".repeat(5000), ")".repeat(5000));
    assert!(fill(&deep).is_err());
}
