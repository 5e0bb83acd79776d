// Command helm answers `helm template` and `helm lint` as the real helm does, by its own packages.
// Beside Traefik, whose versions of them go.mod has, it takes 6 seconds of a processor to build.
// The real one also knows registries and clusters, and takes 46.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/engine"
	releaseutil "helm.sh/helm/v4/pkg/release/v1/util"
	"helm.sh/helm/v4/pkg/strvals"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

const usage = `usage: helm template NAME CHART [flags]
       helm lint CHART [flags]
       helm check < MANIFESTS
`

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "Error: "+err.Error())
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	command, args := args[0], args[1:]
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	namespace := flags.String("namespace", "default", "")
	values := map[string]any{}
	flags.Func("values", "a file", func(name string) error {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		var read map[string]any
		if err := yaml.Unmarshal(text, &read); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		values = loader.MergeMaps(values, read)
		return nil
	})
	flags.Func("set", "NAME=VALUE", func(text string) error { return strvals.ParseInto(text, values) })
	flags.Func("set-string", "NAME=VALUE", func(text string) error { return strvals.ParseIntoString(text, values) })
	i := slices.IndexFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "-") })
	if i < 0 {
		i = len(args)
	}
	if err := flags.Parse(args[i:]); err != nil || flags.NArg() > 0 {
		return fmt.Errorf("%v%s", err, usage)
	}
	switch args = args[:i]; {
	case command == "template" && len(args) == 2:
		return template(args[0], args[1], *namespace, values, out)
	case command == "lint" && len(args) == 1:
		result := lint.RunAll(args[0], values, *namespace)
		for _, message := range result.Messages {
			fmt.Fprintln(out, message)
		}
		if result.HighestSeverity >= support.WarningSev {
			return errors.New("lint finds something")
		}
		return nil
	case command == "check" && len(args) == 0:
		return check(os.Stdin)
	}
	return errors.New(usage)
}

// template writes what `helm template` does.
func template(name, folder, namespace string, values map[string]any, out io.Writer) error {
	chart, err := loader.Load(folder)
	if err != nil {
		return err
	}
	if err := chartutil.ProcessDependencies(chart, values); err != nil {
		return err
	}
	capabilities := common.DefaultCapabilities.Copy()
	rendered, err := util.ToRenderValues(chart, values, common.ReleaseOptions{Name: name, Namespace: namespace, Revision: 1, IsInstall: true}, capabilities)
	if err != nil {
		return err
	}
	files, err := engine.Render(chart, rendered)
	if err != nil {
		return err
	}
	delete(files, path.Join(chart.Name(), "templates", "NOTES.txt"))
	_, manifests, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, manifest := range manifests {
		fmt.Fprintf(&text, "---\n# Source: %s\n%s\n", manifest.Name, manifest.Content)
	}
	_, err = fmt.Fprintln(out, strings.TrimSpace(text.String()))
	return err
}

// check decodes manifests of Kubernetes' own kinds strictly: an unknown or repeated field, and a
// value of another type, is an error. It does not know what is required, nor other kinds.
func check(in io.Reader) error {
	text, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	var wrong []error
	for _, document := range bytes.Split(text, []byte("\n---\n")) {
		var kind struct{ APIVersion string }
		if err := yaml.Unmarshal(document, &kind); err != nil {
			wrong = append(wrong, err)
			continue
		}
		group, _, _ := strings.Cut(kind.APIVersion, "/")
		if kind.APIVersion == "" || !scheme.Scheme.IsGroupRegistered(group) && kind.APIVersion != "v1" {
			continue
		}
		if _, _, err := decoder.Decode(document, nil, nil); err != nil {
			wrong = append(wrong, fmt.Errorf("%w in:\n%s", err, document))
		}
	}
	return errors.Join(wrong...)
}
