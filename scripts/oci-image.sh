#!/bin/bash
# oci-image.sh [--env NAME=VALUE]… [--cmd WORD]… LAYOUT TAG PLATFORM=DIRECTORY… - makes base images.
#
# Writes the directories as one-layer images, everything in them owned by root, to a new OCI layout,
# and names the result TAG there: the manifest if there is one platform, else an index of them.
# The same files give the same digests: order, owners, times and names in the tar are fixed.
#
# The tests' base images come from here, not from rbuild, so that the two cannot share a mistake.
set -euo pipefail
shopt -s inherit_errexit

config='{}'
while [[ ${1-} == --* ]]; do
    case $1 in
        --env) config=$(jq -c --arg word "$2" '.Env += [$word]' <<< "$config") ;;
        --cmd) config=$(jq -c --arg word "$2" '.Cmd += [$word]' <<< "$config") ;;
        *) echo "${0##*/}: unknown option $1" >&2; exit 2 ;;
    esac
    shift 2
done
if [ $# -lt 3 ]; then
    echo "usage: ${0##*/} [--env NAME=VALUE]… [--cmd WORD]… LAYOUT TAG PLATFORM=DIRECTORY…" >&2
    exit 2
fi
layout=$1 tag=$2
shift 2

oci=application/vnd.oci.image
rm -rf "$layout"
mkdir -p "$layout/blobs/sha256"
echo '{"imageLayoutVersion":"1.0.0"}' > "$layout/oci-layout"

# blob MEDIA_TYPE: adds standard input to the layout and prints its descriptor.
blob() {
    local file digest
    file=$(mktemp "$layout/XXXXXX")
    cat > "$file"
    digest=$(sha256sum < "$file")
    digest=${digest%% *}
    jq -nc --arg type "$1" --arg digest "sha256:$digest" --argjson size "$(stat -c %s "$file")" \
        '{mediaType: $type, digest: $digest, size: $size}'
    chmod 0644 "$file"
    mv "$file" "$layout/blobs/sha256/$digest"
}

# image OS ARCHITECTURE VARIANT DIRECTORY: adds an image and prints the descriptor of its manifest.
image() {
    local platform tar diff_id layer image_config
    platform=$(jq -nc --arg os "$1" --arg architecture "$2" --arg variant "$3" \
        '{$architecture, $os} + if $variant == "" then {} else {$variant} end')
    tar=$(mktemp "$layout/XXXXXX")
    (cd "$4" && find . -mindepth 1 -printf '%P\0') | LC_ALL=C sort -z |
        tar --create --file "$tar" --numeric-owner --owner=0 --group=0 --mtime=@0 --format=posix \
            --pax-option=delete=atime,delete=ctime,exthdr.name=%d/PaxHeaders/%f \
            --directory "$4" --no-recursion --null --files-from -
    diff_id=$(sha256sum < "$tar")
    layer=$(gzip -n -1 < "$tar" | blob $oci.layer.v1.tar+gzip)
    rm "$tar"
    image_config=$(jq -nc --argjson platform "$platform" --argjson config "$config" \
        --arg diff_id "sha256:${diff_id%% *}" \
        '{created: "1970-01-01T00:00:00Z"} + $platform + {$config,
          rootfs: {type: "layers", diff_ids: [$diff_id]},
          history: [{created: "1970-01-01T00:00:00Z", created_by: "oci-image.sh"}]}' |
        blob $oci.config.v1+json)
    jq -nc --arg type $oci.manifest.v1+json --argjson config "$image_config" \
        --argjson layer "$layer" \
        '{schemaVersion: 2, mediaType: $type, $config, layers: [$layer]}' |
        blob $oci.manifest.v1+json | jq -c --argjson platform "$platform" '. + {$platform}'
}

images=()
for pair in "$@"; do
    IFS=/ read -r os architecture variant <<< "${pair%%=*}"
    descriptor=$(image "$os" "$architecture" "$variant" "${pair#*=}")
    images+=("$descriptor")
done

# index: prints an image index of the descriptors on standard input.
index() {
    jq -sc --arg type $oci.index.v1+json '{schemaVersion: 2, mediaType: $type, manifests: .}'
}

if [ ${#images[@]} -eq 1 ]; then
    result=${images[0]}
else
    result=$(printf '%s\n' "${images[@]}" | index | blob $oci.index.v1+json)
fi
jq -c --arg tag "$tag" '. + {annotations: {"org.opencontainers.image.ref.name": $tag}}' \
    <<< "$result" | index > "$layout/index.json"
