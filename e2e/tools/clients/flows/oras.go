package main

import (
	"bytes"
	"context"
	_ "crypto/sha512" // Digests of that algorithm.
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
)

const (
	artifactType  = "application/vnd.landfast.test.artifact"
	signatureType = "application/vnd.landfast.test.signature"
)

// orasGo goes through what oras does: artifacts, what is attached to them, and
// copies.
func orasGo(ctx context.Context, host, project string, plain bool, seen *recorder) error {
	store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
	if err != nil {
		return err
	}
	client := &auth.Client{
		Client:     &http.Client{Transport: seen},
		Cache:      auth.NewCache(),
		Credential: credentials.Credential(store),
	}
	open := func(name string) (*remote.Repository, error) {
		repository, err := remote.NewRepository(host + "/" + project + "/" + name)
		if err != nil {
			return nil, err
		}
		repository.Client, repository.PlainHTTP = client, plain
		// A registry without referrers must not pass for one that has them.
		return repository, repository.SetReferrersCapability(true)
	}
	repository, err := open("oras")
	if err != nil {
		return err
	}
	other, err := open("oras-other")
	if err != nil {
		return err
	}
	registry, err := remote.NewRegistry(host)
	if err != nil {
		return err
	}
	registry.Client, registry.PlainHTTP = client, plain

	var artifact, blob ocispec.Descriptor
	content := bytes.Repeat([]byte("landfast "), 100_000)
	return run([]step{
		{"log in", func() error { return registry.Ping(ctx) }},
		{"push a file as an artifact", func() (err error) {
			artifact, err = push(ctx, repository, content)
			return err
		}},
		{"push and fetch a blob", func() (err error) {
			if blob, err = oras.PushBytes(ctx, repository, "text/plain", []byte("a blob")); err != nil {
				return err
			}
			_, got, err := oras.FetchBytes(ctx, repository.Blobs(), blob.Digest.String(), oras.DefaultFetchBytesOptions)
			return errors.Join(err, same("content", string(got), "a blob"))
		}},
		{"tag with many names", func() error {
			if _, err := oras.TagN(ctx, repository, "v1", []string{"v1.0", "v1.0.0", "latest"}, oras.DefaultTagNOptions); err != nil {
				return err
			}
			var tags []string
			repository.TagListPageSize = 2
			err := repository.Tags(ctx, "", func(page []string) error {
				tags = append(tags, page...)
				return nil
			})
			return errors.Join(err, same("tags", fmt.Sprint(tags), "[latest v1 v1.0 v1.0.0]"))
		}},
		{"read from the middle of a blob", func() error { return seek(ctx, repository, artifact, content) }},
		{"attach and discover", func() error { return attach(ctx, repository, artifact) }},
		{"copy with all that is attached, by mounts", func() error {
			copied, err := oras.ExtendedCopy(ctx, repository, "v1", other, "v1", mounting(project+"/oras"))
			if err != nil {
				return err
			}
			found, err := other.Predecessors(ctx, copied)
			if seen.count("POST ", "oras-other", "mount=", "from=", " 201") == 0 {
				err = errors.Join(err, errors.New("nothing was mounted"))
			}
			return errors.Join(err, same("digest", copied.Digest, artifact.Digest), same("referrers", len(found), 2))
		}},
		{"pull by copying into memory", func() error {
			memory := memory.New()
			pulled, err := oras.Copy(ctx, other, "v1", memory, "v1", oras.DefaultCopyOptions)
			if err != nil {
				return err
			}
			return same("digest", pulled.Digest, artifact.Digest)
		}},
		{"sha512", func() error { return sha512(ctx, repository, content) }},
		{"list repositories", func() error {
			var names []string
			registry.RepositoryListPageSize = 1
			err := registry.Repositories(ctx, "", func(page []string) error {
				names = append(names, page...)
				return nil
			})
			if !slices.Contains(names, project+"/oras") || !slices.Contains(names, project+"/oras-other") {
				err = errors.Join(err, fmt.Errorf("not all are in %v", names))
			}
			return err
		}},
		{"delete a manifest and a blob", func() error {
			if err := errors.Join(other.Delete(ctx, artifact), repository.Delete(ctx, blob)); err != nil {
				return err
			}
			_, err := other.Resolve(ctx, "v1")
			if !errors.Is(err, errdef.ErrNotFound) {
				return fmt.Errorf("its tag is there: %v", err)
			}
			exists, err := repository.Exists(ctx, blob)
			return errors.Join(err, same("the blob is there", exists, false))
		}},
	})
}

// push pushes one file, with the empty configuration (image-spec, "Guidance
// for an Empty Descriptor").
func push(ctx context.Context, to *remote.Repository, content []byte) (ocispec.Descriptor, error) {
	memory := memory.New()
	layer, err := oras.PushBytes(ctx, memory, "text/plain", content)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	options := oras.PackManifestOptions{Layers: []ocispec.Descriptor{layer}}
	manifest, err := oras.PackManifest(ctx, memory, oras.PackManifestVersion1_1, artifactType, options)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := memory.Tag(ctx, manifest, "v1"); err != nil {
		return ocispec.Descriptor{}, err
	}
	return oras.Copy(ctx, memory, "v1", to, "v1", oras.DefaultCopyOptions)
}

// seek reads a layer's end, which the library does by a range if the registry
// says that it takes one.
func seek(ctx context.Context, from *remote.Repository, artifact ocispec.Descriptor, content []byte) error {
	layer := ocispec.Descriptor{Digest: digest.FromBytes(content), Size: int64(len(content))}
	reader, err := from.Blobs().Fetch(ctx, layer)
	if err != nil {
		return err
	}
	defer reader.Close()
	seeker, ok := reader.(io.ReadSeeker)
	if !ok {
		return errors.New("the registry offers no ranges")
	}
	if _, err := seeker.Seek(-1000, io.SeekEnd); err != nil {
		return err
	}
	end, err := io.ReadAll(seeker)
	return errors.Join(err, same("end", string(end), string(content[len(content)-1000:])))
}

// attach attaches two signatures, one of them to the other.
func attach(ctx context.Context, to *remote.Repository, subject ocispec.Descriptor) error {
	for i := range 2 {
		options := oras.PackManifestOptions{
			Subject:             &subject,
			ManifestAnnotations: map[string]string{"dev.landfast.test": fmt.Sprint(i)},
		}
		if _, err := oras.PackManifest(ctx, to, oras.PackManifestVersion1_1, signatureType, options); err != nil {
			return err
		}
	}
	count := func(artifactType string, want int) error {
		n := 0
		err := to.Referrers(ctx, subject, artifactType, func(found []ocispec.Descriptor) error {
			for _, referrer := range found {
				if referrer.ArtifactType != signatureType || referrer.Annotations["dev.landfast.test"] == "" {
					return fmt.Errorf("a descriptor without what its manifest says: %v", referrer)
				}
			}
			n += len(found)
			return nil
		})
		return errors.Join(err, same("referrers", n, want))
	}
	return errors.Join(count("", 2), count(signatureType, 2), count("application/vnd.landfast.test.none", 0))
}

func mounting(from string) oras.ExtendedCopyOptions {
	options := oras.DefaultExtendedCopyOptions
	options.MountFrom = func(context.Context, ocispec.Descriptor) ([]string, error) { return []string{from}, nil }
	return options
}

// sha512 pushes and pulls a blob and a manifest by digests of that algorithm.
func sha512(ctx context.Context, to *remote.Repository, content []byte) error {
	blob := ocispec.Descriptor{MediaType: "text/plain", Digest: digest.SHA512.FromBytes(content), Size: int64(len(content))}
	if err := to.Push(ctx, blob, bytes.NewReader(content)); err != nil {
		return err
	}
	manifest := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"artifactType":%q,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[{"mediaType":"text/plain","digest":%q,"size":%d}]}`,
		ocispec.MediaTypeImageManifest, artifactType, ocispec.DescriptorEmptyJSON.Digest, blob.Digest, blob.Size)
	descriptor := ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageManifest,
		Digest:    digest.SHA512.FromBytes(manifest),
		Size:      int64(len(manifest)),
	}
	if err := to.Push(ctx, descriptor, bytes.NewReader(manifest)); err != nil {
		return err
	}
	memory := memory.New()
	options := oras.DefaultCopyGraphOptions
	return oras.CopyGraph(ctx, to, memory, descriptor, options)
}
