// Fetcher pulls one image as containerd does, with the fetchers of two of its versions, and checks every digest.
//
//	fetcher 1|2 HOST NAMESPACE/NAME:TAG PARALLEL CHUNK
//
// HOST serves the image, the namespace is the registry that the image is called by: where they differ, containerd adds
// `?ns=`. In the place of a host there may be an absolute folder such as /etc/containerd/certs.d, whose hosts.toml
// containerd reads by itself. Prints a line `DIGEST SIZE MEDIA-TYPE` for all that came, and fails when anything is wrong.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	oldremotes "github.com/containerd/containerd/remotes"
	olddocker "github.com/containerd/containerd/remotes/docker"
	oldconfig "github.com/containerd/containerd/remotes/docker/config"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/containerd/containerd/v2/core/transfer"
	"github.com/containerd/log"
	"golang.org/x/sync/errgroup"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// fetcher is what both versions have in common.
type fetcher interface {
	Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
}

// parts are the entries of a manifest and of an index.
type parts struct {
	Manifests []ocispec.Descriptor `json:"manifests"`
	Config    *ocispec.Descriptor  `json:"config"`
	Layers    []ocispec.Descriptor `json:"layers"`
}

func old(ctx context.Context, host, ref string) (fetcher, ocispec.Descriptor, error) {
	hosts := oldconfig.ConfigureHosts(ctx, oldconfig.HostOptions{HostDir: oldconfig.HostDirFromRoot(host)})
	if !strings.HasPrefix(host, "/") {
		hosts = oldOne(host)
	}
	var resolver oldremotes.Resolver = olddocker.NewResolver(olddocker.ResolverOptions{Hosts: hosts})
	name, root, err := resolver.Resolve(ctx, ref)
	if err != nil {
		return nil, root, err
	}
	made, err := resolver.Fetcher(ctx, name)
	return made, root, err
}

func oldOne(host string) olddocker.RegistryHosts {
	return func(string) ([]olddocker.RegistryHost, error) {
		capabilities := olddocker.HostCapabilityPull | olddocker.HostCapabilityResolve
		return []olddocker.RegistryHost{
			{Client: http.DefaultClient, Host: host, Scheme: "http", Path: "/v2", Capabilities: capabilities},
		}, nil
	}
}

func today(ctx context.Context, host, ref string, parallel, chunk int) (fetcher, ocispec.Descriptor, error) {
	hosts := config.ConfigureHosts(ctx, config.HostOptions{HostDir: config.HostDirFromRoot(host)})
	if !strings.HasPrefix(host, "/") {
		hosts = one(host)
	}
	resolver := docker.NewResolver(docker.ResolverOptions{Hosts: hosts})
	resolver.(remotes.ResolverWithOptions).SetOptions(
		transfer.WithMaxConcurrentDownloads(parallel), transfer.WithConcurrentLayerFetchBuffer(chunk),
	)
	name, root, err := resolver.Resolve(ctx, ref)
	if err != nil {
		return nil, root, err
	}
	made, err := resolver.Fetcher(ctx, name)
	return made, root, err
}

func one(host string) docker.RegistryHosts {
	return func(string) ([]docker.RegistryHost, error) {
		capabilities := docker.HostCapabilityPull | docker.HostCapabilityResolve | docker.HostCapabilityReferrers
		return []docker.RegistryHost{
			{Client: http.DefaultClient, Host: host, Scheme: "http", Path: "/v2", Capabilities: capabilities},
		}, nil
	}
}

// fetched reads one content, and returns it when it is a manifest.
func fetched(ctx context.Context, from fetcher, desc ocispec.Descriptor) (parts, error) {
	var found parts
	body, err := from.Fetch(ctx, desc)
	if err != nil {
		return found, fmt.Errorf("%s: %w", desc.Digest, err)
	}
	defer body.Close()
	verifier := desc.Digest.Verifier()
	var kept strings.Builder
	to := io.Writer(verifier)
	manifest := strings.Contains(desc.MediaType, "manifest") || strings.Contains(desc.MediaType, "index")
	if manifest {
		to = io.MultiWriter(verifier, &kept)
	}
	size, err := io.Copy(to, body)
	if err != nil {
		return found, fmt.Errorf("%s: %w", desc.Digest, err)
	}
	if size != desc.Size || !verifier.Verified() {
		return found, fmt.Errorf("%s: wrong content of %d bytes", desc.Digest, size)
	}
	fmt.Printf("%s %d %s\n", desc.Digest, size, desc.MediaType)
	if manifest {
		err = json.Unmarshal([]byte(kept.String()), &found)
	}
	return found, err
}

func tree(ctx context.Context, from fetcher, desc ocispec.Descriptor) error {
	found, err := fetched(ctx, from, desc)
	if err != nil {
		return err
	}
	below := append(found.Manifests, found.Layers...)
	if found.Config != nil {
		below = append(below, *found.Config)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, one := range below {
		group.Go(func() error { return tree(ctx, from, one) })
	}
	return group.Wait()
}

func run() error {
	if len(os.Args) != 6 {
		return fmt.Errorf("usage: fetcher 1|2 HOST NAMESPACE/NAME:TAG PARALLEL CHUNK")
	}
	ctx, host, ref := context.Background(), os.Args[2], os.Args[3]
	parallel, err := strconv.Atoi(os.Args[4])
	if err != nil {
		return err
	}
	chunk, err := strconv.Atoi(os.Args[5])
	if err != nil {
		return err
	}
	var from fetcher
	var root ocispec.Descriptor
	if os.Args[1] == "1" {
		from, root, err = old(ctx, host, ref)
	} else {
		from, root, err = today(ctx, host, ref, parallel, chunk)
	}
	if err != nil {
		return err
	}
	return tree(ctx, from, root)
}

func main() {
	_ = log.SetLevel("error")
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
