// One program that acts as what it is called as: Kubernetes' own programs, etcd and CoreDNS.
//
// Upstream publishes them as libraries; a node needs programs. Built together they share most of their packages, so that
// they are compiled and stored once. CoreDNS has only the plugins that its configuration here names.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	_ "time/tzdata" // time zones of CronJobs, as Kubernetes' own programs have them

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/metrics"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
	_ "github.com/coredns/coredns/plugin/template"
	"github.com/fsnotify/fsnotify"
	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	"k8s.io/kubernetes/cmd/kubeadm/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// What can be run by Kubernetes' own starter, which reads flags, logs and sets the exit code.
var commands = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllers.NewControllerManagerCommand,
	"kube-proxy":              proxy.NewProxyCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kubectl":                 kubectl.NewDefaultKubectlCommand,
	"kubelet":                 func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
}

func main() {
	name := filepath.Base(os.Args[0])
	if name == "kube-controller-manager" {
		go openVolumes("/tmp/hostpath_pv")
	}
	if command, is := commands[name]; is {
		os.Exit(cli.Run(command()))
	}
	switch name {
	case "etcd":
		etcdmain.Main(os.Args)
	case "kubeadm":
		if err := app.Run(); err != nil {
			os.Exit(1)
		}
	case "coredns":
		// The order in which a question passes the plugins.
		dnsserver.Directives = []string{"reload", "ready", "health", "prometheus", "errors", "cache", "loadbalance", "template", "hosts", "kubernetes"}
		coremain.Run()
	default:
		fmt.Fprintf(os.Stderr, "called as %q: it is one of kubeadm, kubectl, kubelet, etcd, coredns and the programs of the control plane\n", name)
		os.Exit(2)
	}
}

// openVolumes lets every user write into the volumes that the host-path provisioner makes. It makes them for root alone, and
// fsGroup does not apply to folders of the host.
func openVolumes(folder string) {
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		err = watcher.Add(folder)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "volumes will be root's alone: %v\n", err)
		return
	}
	for event := range watcher.Events {
		if event.Has(fsnotify.Create) {
			if err := os.Chmod(event.Name, 0o777); err != nil {
				fmt.Fprintf(os.Stderr, "a volume is root's alone: %v\n", err)
			}
		}
	}
}
