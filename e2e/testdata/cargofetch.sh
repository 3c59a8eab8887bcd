# Fetches a crate with cargo from the registry with the URL $1. Its index is sparse. The
# directory $2, which by default is HOME, gets a package that depends on the crate.
#
# It runs Debian's cargo, because another one in the PATH may be rustup's, which works only
# for the user who installed its toolchain.
set -eu
dir=${2-$HOME}
cat >"$dir/Cargo.toml" <<-'EOF'
	[package]
	name = "client"
	version = "0.1.0"
	edition = "2021"
	[lib]
	path = "lib.rs"
	[dependencies]
	suite-fixture = { version = "1", registry = "suite" }
EOF
export RUSTC=/usr/bin/rustc CARGO_HOME="$dir/cargo" CARGO_NET_RETRY=0
export CARGO_REGISTRIES_SUITE_INDEX="sparse+$1"
# In versions before 1.68, sparse indexes are an unstable feature.
export RUSTC_BOOTSTRAP=1 CARGO_UNSTABLE_SPARSE_REGISTRY=true
# Tests read the standard output.
exec /usr/bin/cargo fetch --manifest-path "$dir/Cargo.toml" 2>&1
