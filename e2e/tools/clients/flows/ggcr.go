package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/stream"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// ggcr goes through what go-containerregistry can do with a registry.
func ggcr(ctx context.Context, registry, project string, seen *recorder) error {
	repository, err := name.NewRepository(registry + "/" + project + "/ggcr")
	if err != nil {
		return err
	}
	other, err := name.NewRepository(registry + "/" + project + "/ggcr-other")
	if err != nil {
		return err
	}
	options := []remote.Option{
		remote.WithContext(ctx),
		remote.WithAuthFromKeychain(authn.DefaultKeychain),
		remote.WithTransport(seen),
		// A registry without referrers must not pass for one that has them.
		remote.WithReferrersTagFallback(false),
	}
	// Of Docker's media types.
	image, err := random.Image(100_000, 3)
	if err != nil {
		return err
	}
	oci := mutate.ConfigMediaType(mutate.MediaType(image, types.OCIManifestSchema1), types.OCIConfigJSON)
	index, err := random.Index(10_000, 2, 3)
	if err != nil {
		return err
	}
	v1Tag := repository.Tag("v1")

	return run([]step{
		{"permission to push", func() error { return remote.CheckPushPermission(v1Tag, authn.DefaultKeychain, seen) }},
		{"write and read a Docker image", func() error { return roundTrip(v1Tag, image, options) }},
		{"write and read an OCI image", func() error { return roundTrip(repository.Tag("oci"), oci, options) }},
		{"a second push uploads nothing", func() error {
			before := seen.count("PATCH ")
			if err := remote.Write(repository.Tag("again"), image, options...); err != nil {
				return err
			}
			return same("uploads", seen.count("PATCH "), before)
		}},
		{"head", func() error {
			head, err := remote.Head(v1Tag, options...)
			if err != nil {
				return err
			}
			digest, err := image.Digest()
			if err != nil {
				return err
			}
			return errors.Join(
				same("digest", head.Digest, digest),
				same("media type", head.MediaType, types.DockerManifestSchema2),
			)
		}},
		{"write and read an index", func() error {
			if err := remote.WriteIndex(repository.Tag("index"), index, options...); err != nil {
				return err
			}
			read, err := remote.Index(repository.Tag("index"), options...)
			if err != nil {
				return err
			}
			return errors.Join(validate.Index(read), sameDigest(read, index))
		}},
		{"write many that share layers", func() error { return writeMany(repository, oci, options) }},
		{"stream a layer of unknown length", func() error {
			content := bytes.Repeat([]byte("landfast"), 500_000)
			layer := stream.NewLayer(io.NopCloser(bytes.NewReader(content)))
			if err := remote.WriteLayer(repository, layer, options...); err != nil {
				return err
			}
			digest, err := layer.Digest()
			if err != nil {
				return err
			}
			read, err := remote.Layer(repository.Digest(digest.String()), options...)
			if err != nil {
				return err
			}
			reader, err := read.Uncompressed()
			if err != nil {
				return err
			}
			got, err := io.ReadAll(reader)
			return errors.Join(err, reader.Close(), same("same content", bytes.Equal(got, content), true))
		}},
		{"list tags, a page at a time", func() error {
			tags, err := remote.List(repository, append(options, remote.WithPageSize(2))...)
			if err != nil {
				return err
			}
			want := []string{"again", "index", "many-0", "many-1", "many-2", "oci", "v1"}
			if !slices.Equal(tags, want) {
				return fmt.Errorf("%v, not %v", tags, want)
			}
			return nil
		}},
		{"tag", func() error {
			descriptor, err := remote.Get(v1Tag, options...)
			if err != nil {
				return err
			}
			if err := remote.Tag(repository.Tag("latest"), descriptor, options...); err != nil {
				return err
			}
			read, err := remote.Image(repository.Tag("latest"), options...)
			if err != nil {
				return err
			}
			return sameDigest(read, image)
		}},
		{"copy to another repository by mounts", func() error {
			read, err := remote.Image(v1Tag, options...)
			if err != nil {
				return err
			}
			if err := remote.Write(other.Tag("v1"), read, options...); err != nil {
				return err
			}
			// The three layers and the configuration.
			return same("mounts", seen.count("POST ", "ggcr-other", "mount=", "from=", " 201"), 4)
		}},
		{"catalog", func() error {
			names, err := remote.Catalog(ctx, repository.Registry, append(options, remote.WithPageSize(1))...)
			if err != nil {
				return err
			}
			for _, want := range []string{repository.RepositoryStr(), other.RepositoryStr()} {
				if !slices.Contains(names, want) {
					return fmt.Errorf("%v lacks %s", names, want)
				}
			}
			return nil
		}},
		{"referrers", func() error { return referrers(repository, oci, options) }},
		{"delete a tag, then the manifest", func() error { return deletes(repository, v1Tag, image, options) }},
	})
}

func sameDigest(got, want partial.WithRawManifest) error {
	a, err := got.RawManifest()
	if err != nil {
		return err
	}
	b, err := want.RawManifest()
	if err != nil {
		return err
	}
	return same("manifest", string(a), string(b))
}

func roundTrip(reference name.Reference, image v1.Image, options []remote.Option) error {
	if err := remote.Write(reference, image, options...); err != nil {
		return err
	}
	read, err := remote.Image(reference, options...)
	if err != nil {
		return err
	}
	// Reads each layer and holds it against its digest.
	return errors.Join(validate.Image(read), sameDigest(read, image))
}

func writeMany(repository name.Repository, base v1.Image, options []remote.Option) error {
	todo := map[name.Reference]remote.Taggable{}
	for i := range 3 {
		layer, err := random.Layer(50_000, types.OCILayerZStd)
		if err != nil {
			return err
		}
		image, err := mutate.AppendLayers(base, layer)
		if err != nil {
			return err
		}
		todo[repository.Tag(fmt.Sprintf("many-%d", i))] = image
	}
	if err := remote.MultiWrite(todo, options...); err != nil {
		return err
	}
	for reference, image := range todo {
		read, err := remote.Image(reference, options...)
		if err != nil {
			return err
		}
		if err := sameDigest(read, image.(v1.Image)); err != nil {
			return err
		}
	}
	return nil
}

func referrers(repository name.Repository, image v1.Image, options []remote.Option) error {
	subject, err := partial.Descriptor(image)
	if err != nil {
		return err
	}
	empty, err := random.Image(1_000, 1)
	if err != nil {
		return err
	}
	kinds := []types.MediaType{"application/vnd.landfast.test.one", "application/vnd.landfast.test.two"}
	for _, kind := range kinds {
		// Without an artifactType of its own an image's is its configuration's media type.
		attached := mutate.ConfigMediaType(mutate.MediaType(empty, types.OCIManifestSchema1), kind)
		attached = mutate.Subject(attached, *subject).(v1.Image)
		digest, err := attached.Digest()
		if err != nil {
			return err
		}
		if err := remote.Write(repository.Digest(digest.String()), attached, options...); err != nil {
			return err
		}
	}
	count := func(want int, filter ...remote.Option) error {
		found, err := remote.Referrers(repository.Digest(subject.Digest.String()), append(options, filter...)...)
		if err != nil {
			return err
		}
		manifest, err := found.IndexManifest()
		if err != nil {
			return err
		}
		return same("referrers", len(manifest.Manifests), want)
	}
	return errors.Join(count(2), count(1, remote.WithFilter("artifactType", string(kinds[1]))))
}

func deletes(repository name.Repository, tag name.Tag, image v1.Image, options []remote.Option) error {
	digest, err := image.Digest()
	if err != nil {
		return err
	}
	byDigest := repository.Digest(digest.String())
	if err := remote.Delete(tag, options...); err != nil {
		return err
	}
	if err := gone(tag, options); err != nil {
		return err
	}
	if _, err := remote.Head(byDigest, options...); err != nil {
		return fmt.Errorf("the manifest went with its tag: %w", err)
	}
	if err := remote.Delete(byDigest, options...); err != nil {
		return err
	}
	return errors.Join(gone(byDigest, options), gone(repository.Tag("latest"), options))
}

func gone(reference name.Reference, options []remote.Option) error {
	_, err := remote.Head(reference, options...)
	var refused *transport.Error
	if errors.As(err, &refused) && refused.StatusCode == http.StatusNotFound {
		return nil
	}
	return fmt.Errorf("%s: %v, not 404", reference, err)
}
