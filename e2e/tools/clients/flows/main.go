// Program flows does with a registry what programs do that are built on Go's
// two client libraries for it, and ends with an error at the first thing that
// is not as it should be.
//
//	flows ggcr|oras REGISTRY PROJECT [plain]
//
// PROJECT is a path under which it may pull, push and delete. Credentials come
// from docker's configuration, and the authorities to trust from SSL_CERT_FILE.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: flows ggcr|oras REGISTRY PROJECT [plain]")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	registry, project, plain := os.Args[2], os.Args[3], slices.Contains(os.Args[4:], "plain")
	seen := &recorder{next: http.DefaultTransport}
	var err error
	switch os.Args[1] {
	case "ggcr":
		err = ggcr(ctx, registry, project, seen)
	case "oras":
		err = orasGo(ctx, registry, project, plain, seen)
	default:
		err = fmt.Errorf("unknown flow %q", os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "flows:", err)
		fmt.Fprintln(os.Stderr, strings.Join(seen.last(20), "\n"))
		os.Exit(1)
	}
}

// step says which step an error belongs to.
type step struct {
	name string
	run  func() error
}

func run(steps []step) error {
	for _, s := range steps {
		if err := s.run(); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		fmt.Println("ok:", s.name)
	}
	fmt.Println("done:", len(steps), "steps")
	return nil
}

// same is an error unless both are the same.
func same[T comparable](what string, got, want T) error {
	if got != want {
		return fmt.Errorf("%s: %v, not %v", what, got, want)
	}
	return nil
}

// recorder remembers requests, so that a flow can tell how a library got what
// it wanted: a blob that was to be mounted may have been uploaded instead.
type recorder struct {
	next  http.RoundTripper
	mutex sync.Mutex
	lines []string
}

func (r *recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := r.next.RoundTrip(request)
	r.mutex.Lock()
	defer r.mutex.Unlock()
	outcome := fmt.Sprint(err)
	if err == nil {
		outcome = fmt.Sprint(response.StatusCode)
	}
	r.lines = append(r.lines, fmt.Sprintf("%s %s %s", request.Method, request.URL.RequestURI(), outcome))
	return response, err
}

// count gives how many requests had all of the parts in their lines, METHOD URI
// STATUS.
func (r *recorder) count(parts ...string) int {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	n := 0
	for _, line := range r.lines {
		if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
			n++
		}
	}
	return n
}

func (r *recorder) last(n int) []string {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return slices.Clone(r.lines[max(0, len(r.lines)-n):])
}
