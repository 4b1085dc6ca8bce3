/** Languages of the product so far. */
export type Language = 'en' | 'zh-CN';

/** What the doctor looks at. */
export type CheckId =
  | 'node'
  | 'joined'
  | 'index'
  | 'certificate'
  | 'trust'
  | 'disk'
  | 'clock'
  | 'dimse'
  | 'peers'
  | 'feed'
  | 'quarantine'
  | 'patients'
  | 'lost-files';

interface Words {
  readonly says: string;
  readonly todo?: string;
}

interface CheckWords {
  readonly title: string;
  readonly ok: Words;
  readonly warning: Words;
  readonly problem: Words;
  readonly unknown: Words;
}

interface DoctorWords {
  readonly verdict: Readonly<Record<'ok' | 'warning' | 'problem', string>>;
  readonly checks: Readonly<Record<CheckId, CheckWords>>;
}

/** The doctor's sentences. */
export function doctorWords(language: Language): DoctorWords {
  return language === 'zh-CN' ? CHINESE : ENGLISH;
}

/** The first of our languages in an Accept-Language header; English otherwise. */
export function languageOf(acceptLanguage: string | undefined): Language {
  const first = (acceptLanguage ?? '').split(',').find((part) => /^\s*(zh|en)/i.test(part));
  return first !== undefined && /^\s*zh/i.test(first) ? 'zh-CN' : 'en';
}

const UNKNOWN: Words = { says: 'Could not be checked: the node is not running, or has not joined a mesh.' };
const NONE: Words = { says: '' };

const ENGLISH: DoctorWords = {
  verdict: {
    ok: 'All is well.',
    warning: 'The node works. Needing attention soon: {warnings}.',
    problem: 'Wrong: {problems}. Needing attention: {warnings}. What was stored is not affected.',
  },
  checks: {
    node: {
      title: 'Node',
      ok: { says: 'The node is running.' },
      problem: { says: 'The node is not running. What it stored is safe on its disk.', todo: 'Start it: meridian serve' },
      warning: NONE,
      unknown: UNKNOWN,
    },
    joined: {
      title: 'Mesh',
      ok: { says: 'This hospital has joined the mesh.' },
      warning: {
        says: 'This node has not joined a mesh: it keeps its own images only.',
        todo: 'Ask your operator for a join link, then: meridian join <link>',
      },
      problem: NONE,
      unknown: UNKNOWN,
    },
    index: {
      title: 'Index',
      ok: { says: 'Connected since {since}.' },
      problem: {
        says: 'The index cannot be reached (since {since}). Images are still received and kept; new studies are announced when it is back.',
        todo: 'Check the network and firewall towards the index; it is tried again all the time.',
      },
      warning: NONE,
      unknown: UNKNOWN,
    },
    certificate: {
      title: 'Certificate',
      ok: { says: '{days} days left; it renews itself.' },
      warning: {
        says: 'Only {days} days left, and it should have renewed itself by now.',
        todo: 'Check that the index can be reached; then restart the node.',
      },
      problem: {
        says: 'The certificate has expired. The index no longer lets this node in.',
        todo: 'Restart the node while the index can be reached. If that fails, ask your operator for a new join link.',
      },
      unknown: UNKNOWN,
    },
    trust: {
      title: 'Trust list',
      ok: { says: 'Fresh: {minutes} minutes old, valid for {hours} hours.' },
      warning: { says: '{minutes} minutes old. It stays valid for {hours} hours.', todo: 'Check that the index can be reached.' },
      problem: {
        says: 'The trust list has expired: no transfer with other hospitals until a new one arrives.',
        todo: 'Check that the index can be reached and that the clock of this machine is right.',
      },
      unknown: UNKNOWN,
    },
    disk: {
      title: 'Disk',
      ok: { says: '{free} free ({percent} %).' },
      warning: {
        says: '{free} free ({percent} %). Below 5 % the node takes no new images.',
        todo: 'Free or add space on the disk of the data folder.',
      },
      problem: {
        says: '{free} free ({percent} %). New images are refused; what is stored can still be read.',
        todo: 'Free or add space on the disk of the data folder. The node resumes by itself.',
      },
      unknown: UNKNOWN,
    },
    clock: {
      title: 'Clock',
      ok: { says: 'Agrees with the index within {seconds} s.' },
      warning: {
        says: '{seconds} s away from the index. From 30 s on, transfers are refused.',
        todo: 'Let this machine keep time with NTP.',
      },
      problem: { says: '{seconds} s away from the index: other hospitals refuse transfers.', todo: 'Let this machine keep time with NTP.' },
      unknown: UNKNOWN,
    },
    dimse: {
      title: 'DICOM port',
      ok: { says: 'Answers at {host}:{port}.' },
      problem: {
        says: 'Nothing answers at {host}:{port}. Scanners and PACS cannot send.',
        todo: 'See the log for why the port could not be opened, and whether another program uses it.',
      },
      warning: {
        says: 'Another program answers at {host}:{port}; the node could not open it.',
        todo: 'Stop that program, or give the node another port: MERIDIAN_DIMSE_PORT',
      },
      unknown: UNKNOWN,
    },
    peers: {
      title: 'Other hospitals',
      ok: { says: 'All {total} can be reached.' },
      warning: {
        says: '{away} of {total} cannot be reached: {names}. Their images are safe there.',
        todo: 'If it lasts, ask them; if all are away, check your own firewall.',
      },
      problem: NONE,
      unknown: UNKNOWN,
    },
    feed: {
      title: 'Announcements',
      ok: { says: 'Every study is announced to the index.' },
      warning: {
        says: '{pending} studies wait to be announced. Nothing is lost; they go in order.',
        todo: 'If it does not shrink, check that the index can be reached.',
      },
      problem: {
        says: 'The index refused {refused} studies for good: other hospitals do not see them as they are here. {pending} more wait.',
        todo: "Look for feed-entry-refused in this node's log: it names the study and the reason. Correct the study, or tell whoever runs the index.",
      },
      unknown: UNKNOWN,
    },
    quarantine: {
      title: 'Kept aside',
      ok: { says: 'Nothing is kept aside.' },
      warning: {
        says: '{count} objects came under a known UID with other content. The first one was kept; these were kept aside.',
        todo: 'Look at them: meridian quarantine',
      },
      problem: NONE,
      unknown: UNKNOWN,
    },
    patients: {
      title: 'Patient ids',
      ok: { says: 'No patient id stands for two people.' },
      warning: {
        says: '{count} studies came under a patient id that another person has here. Each is kept under a patient of its own; nobody was joined.',
        todo: 'Look for patient-conflict in the log, and ask the sender which patient id is right.',
      },
      problem: NONE,
      unknown: UNKNOWN,
    },
    'lost-files': {
      title: 'Lost and found',
      ok: { says: 'The database knows every file.' },
      warning: {
        says: '{count} whole images are on disk but not in the database, as after restoring an older backup.',
        todo: 'Store them again: meridian import {folder} --own-ids — then delete the folder.',
      },
      problem: NONE,
      unknown: UNKNOWN,
    },
  },
};

const UNKNOWN_ZH: Words = { says: '无法检查：节点未运行，或尚未加入网络。' };

const CHINESE: DoctorWords = {
  verdict: {
    ok: '一切正常。',
    warning: '节点工作正常，有 {warnings} 项需要尽快处理。',
    problem: '有 {problems} 项异常，另有 {warnings} 项需要留意。已保存的影像不受影响。',
  },
  checks: {
    node: {
      title: '节点',
      ok: { says: '节点正在运行。' },
      problem: { says: '节点未运行。已保存的影像在磁盘上是安全的。', todo: '启动节点：meridian serve' },
      warning: NONE,
      unknown: UNKNOWN_ZH,
    },
    joined: {
      title: '网络',
      ok: { says: '本院已加入网络。' },
      warning: { says: '本节点尚未加入网络，目前只保存本院影像。', todo: '向运营方索取加入链接，然后运行：meridian join <链接>' },
      problem: NONE,
      unknown: UNKNOWN_ZH,
    },
    index: {
      title: '索引',
      ok: { says: '{since} 起保持连接。' },
      problem: {
        says: '索引暂时连不上（{since} 起）。影像仍正常接收和保存，恢复后会补报新检查。',
        todo: '检查到索引的网络和防火墙；系统会持续自动重试。',
      },
      warning: NONE,
      unknown: UNKNOWN_ZH,
    },
    certificate: {
      title: '证书',
      ok: { says: '剩余 {days} 天，会自动续期。' },
      warning: { says: '仅剩 {days} 天，本应已自动续期。', todo: '确认索引可以连通，然后重启节点。' },
      problem: { says: '证书已过期，索引不再接受本节点。', todo: '在索引可连通时重启节点；若仍失败，请向运营方索取新的加入链接。' },
      unknown: UNKNOWN_ZH,
    },
    trust: {
      title: '信任名单',
      ok: { says: '最新：{minutes} 分钟前更新，{hours} 小时内有效。' },
      warning: { says: '{minutes} 分钟前更新，{hours} 小时内仍有效。', todo: '确认索引可以连通。' },
      problem: { says: '信任名单已过期，收到新名单前不能与其他医院传输。', todo: '确认索引可以连通，并核对本机时间。' },
      unknown: UNKNOWN_ZH,
    },
    disk: {
      title: '磁盘',
      ok: { says: '剩余 {free}（{percent} %）。' },
      warning: { says: '剩余 {free}（{percent} %）。低于 5 % 时节点不再接收新影像。', todo: '清理或扩充数据目录所在磁盘。' },
      problem: {
        says: '剩余 {free}（{percent} %）。新影像被拒收，已保存的仍可读取。',
        todo: '清理或扩充数据目录所在磁盘，节点会自动恢复接收。',
      },
      unknown: UNKNOWN_ZH,
    },
    clock: {
      title: '时钟',
      ok: { says: '与索引相差不超过 {seconds} 秒。' },
      warning: { says: '与索引相差 {seconds} 秒。达到 30 秒后传输会被拒绝。', todo: '请用 NTP 校时。' },
      problem: { says: '与索引相差 {seconds} 秒，其他医院会拒绝传输。', todo: '请用 NTP 校时。' },
      unknown: UNKNOWN_ZH,
    },
    dimse: {
      title: 'DICOM 端口',
      ok: { says: '{host}:{port} 有应答。' },
      problem: { says: '{host}:{port} 无应答，设备和 PACS 无法发送影像。', todo: '查看日志中端口未能打开的原因，以及是否被其他程序占用。' },
      warning: {
        says: '{host}:{port} 已有其他程序应答，节点无法打开该端口。',
        todo: '停止该程序，或为节点换一个端口：MERIDIAN_DIMSE_PORT',
      },
      unknown: UNKNOWN_ZH,
    },
    peers: {
      title: '其他医院',
      ok: { says: '{total} 家均可连通。' },
      warning: {
        says: '{total} 家中有 {away} 家连不上：{names}。影像仍保存在该院。',
        todo: '若持续如此请联系对方；若全部连不上，请检查本院防火墙。',
      },
      problem: NONE,
      unknown: UNKNOWN_ZH,
    },
    feed: {
      title: '上报',
      ok: { says: '所有检查均已上报索引。' },
      warning: { says: '{pending} 项检查等待上报。不会丢失，按顺序上报。', todo: '若数量不减少，请确认索引可以连通。' },
      problem: {
        says: '索引永久拒绝了 {refused} 项检查：其他医院看不到其当前内容。另有 {pending} 项等待。',
        todo: '请在本节点日志中查找 feed-entry-refused，其中写明检查与原因。请更正该检查，或联系索引管理员。',
      },
      unknown: UNKNOWN_ZH,
    },
    quarantine: {
      title: '隔离',
      ok: { says: '没有被隔离的对象。' },
      warning: { says: '{count} 个对象与已有 UID 相同但内容不同。保留了最先收到的，这些另行隔离。', todo: '查看：meridian quarantine' },
      problem: NONE,
      unknown: UNKNOWN_ZH,
    },
    patients: {
      title: '患者号',
      ok: { says: '没有一号多人。' },
      warning: {
        says: '{count} 项检查的患者号在本院已属他人。各自单独存放，没有并入任何人。',
        todo: '在日志中查找 patient-conflict，并向发送方核实患者号。',
      },
      problem: NONE,
      unknown: UNKNOWN_ZH,
    },
    'lost-files': {
      title: '待认领文件',
      ok: { says: '所有文件均在数据库中。' },
      warning: {
        says: '磁盘上有 {count} 个完整影像不在数据库中，例如恢复了较早的备份。',
        todo: '重新保存：meridian import {folder} --own-ids，然后删除该目录。',
      },
      problem: NONE,
      unknown: UNKNOWN_ZH,
    },
  },
};
