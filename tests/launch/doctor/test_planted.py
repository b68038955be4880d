"""Every check has a fault planted for it, and which those are: at least 25, each found by one line.

The tests named here plant the fault for real (a mount, a signal, a network, a daemon) and call
`Report.only`, or look at the one line themselves. Faults of hardware that is not here are told to
the checks as facts (test_judging.py) and do not count.
"""

import inspect
from collections.abc import Callable

import pytest

from launch.doctor import examination
from tests.launch.doctor import test_hosts as hosts
from tests.launch.doctor import test_machine as machine
from tests.launch.doctor import test_run as run
from tests.launch.doctor import test_slurm as slurm
from tests.launch.doctor import test_software as software

PLANTED: dict[str, list[Callable[..., None]]] = {
    "reach": [
        hosts.test_no_ssh_server,
        hosts.test_a_host_key_that_is_not_known,
        hosts.test_another_host_key_than_known,
        hosts.test_a_key_that_is_refused,
        hosts.test_a_name_that_does_not_exist,
        hosts.test_a_host_that_is_off,
        hosts.test_no_python_there,
        hosts.test_no_textmill_there,
        hosts.test_a_login_that_talks,
        slurm.test_a_python_that_is_not_on_the_nodes,
        slurm.test_a_line_of_the_setup_that_fails,
        software.test_a_python_that_is_too_old,
    ],
    "bandwidth": [hosts.test_a_slow_link_is_named],
    "checkpoints": [run.test_a_checkpoint_cut_short],
    "clock": [hosts.test_a_clock_that_is_wrong],
    "cores": [
        machine.test_a_control_group_with_little_time,
        machine.test_bound_to_one_core,
        machine.test_threads_for_more_cores_than_there_are,
    ],
    "devices": [
        run.test_a_build_of_torch_without_the_devices,
        run.test_a_driver_that_does_not_answer,
    ],
    "disk": [
        machine.test_a_disk_too_small,
        machine.test_checkpoints_that_will_not_fit,
        machine.test_a_file_system_without_inodes,
    ],
    "encoding": [machine.test_text_that_is_not_utf8],
    "folder": [hosts.test_a_working_folder_that_is_not_there],
    "interfaces": [
        machine.test_an_interface_that_does_not_exist,
        machine.test_an_interface_that_is_down,
        hosts.test_a_variable_that_the_launcher_forwards,
        slurm.test_a_variable_of_the_setup,
    ],
    "jit_locks": [machine.test_the_lock_of_a_killed_build],
    "leftovers": [machine.test_a_rank_without_its_launcher],
    "limits": [machine.test_too_few_open_files, machine.test_too_few_processes],
    "links": [hosts.test_a_firewall, hosts.test_packets_that_are_too_large_for_the_way],
    "machines": [hosts.test_one_machine_twice],
    "memory": [machine.test_a_control_group_with_little_memory],
    "names": [
        hosts.test_a_name_that_leads_back_to_its_own_machine,
        hosts.test_a_host_that_does_not_know_the_first,
    ],
    "ports": [machine.test_a_port_that_is_taken, hosts.test_the_port_of_the_first_host],
    "recipe": [
        run.test_a_batch_that_the_ranks_cannot_share,
        run.test_a_ds_config_that_cannot_be_used,
    ],
    "run_locks": [
        run.test_another_job_uses_the_run_and_then_dies,
        run.test_a_lock_that_cannot_be_read,
        machine.test_a_file_system_that_hangs,
    ],
    "shadows": [machine.test_a_module_in_the_place_of_torch],
    "shared": [
        hosts.test_a_folder_that_is_not_shared,
        hosts.test_a_folder_that_one_host_may_not_write,
        machine.test_an_output_that_cannot_be_written,
    ],
    "shared_memory": [machine.test_little_shared_memory],
    "slurm": [
        slurm.test_no_controller,
        slurm.test_a_partition_that_is_down,
        slurm.test_a_node_that_is_drained,
        slurm.test_a_job_longer_than_the_partition_allows,
        slurm.test_a_partition_that_does_not_exist,
        slurm.test_without_slurm,
    ],
    "source": [hosts.test_another_checkout_there],
    "temporary": [
        machine.test_nothing_can_be_executed_in_tmp,
        machine.test_built_extensions_cannot_be_loaded,
    ],
    "user": [software.test_another_group_there],
    "variables": [machine.test_a_variable_of_the_login, hosts.test_other_devices_there],
    "versions": [
        machine.test_a_package_too_old,
        hosts.test_another_version_there,
        software.test_another_python_there,
    ],
}
ALL = [test for tests in PLANTED.values() for test in tests]


def test_every_check_has_a_planted_fault() -> None:
    assert sorted(PLANTED) == sorted(examination.order())
    assert all(PLANTED.values())


def test_at_least_25_faults_are_planted() -> None:
    assert len(set(ALL)) == len(ALL) >= 25


@pytest.mark.parametrize("test", ALL, ids=lambda test: test.__name__)
def test_each_looks_at_what_the_line_says(test: Callable[..., None]) -> None:
    """Its examination, and the words of what it found."""
    text = inspect.getsource(test)
    assert "doctor" in text or "examined" in text
    assert ".what" in text or ".fix" in text or "fix:" in text
