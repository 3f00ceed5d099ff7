"""Models of timm: one to six for each of its modules, the smallest of as many families; found with timm 1.0.31."""

from __future__ import annotations

TIMM = (
    # beit
    "beit_base_patch16_224",
    # byoanet
    "halonet_h1",
    "eca_botnext26ts_256",
    "lambda_resnet26t",
    "haloregnetz_b",
    "halonet26t",
    "botnet26t_256",
    # byobnet
    "mobileone_s1",
    "gernet_s",
    "repvgg_a0",
    "regnetz_b16",
    "resnext26ts",
    "eca_resnext26ts",
    # cait
    "cait_xxs24_224",
    "cait_xs24_384",
    # coat
    "coat_tiny",
    "coat_lite_mini",
    # convit
    "convit_tiny",
    "convit_small",
    # convmixer
    "convmixer_768_32",
    "convmixer_1024_20_ks9_p14",
    # convnext
    "convnext_zepto_rms",
    "convnextv2_atto",
    # cpubone
    "cpubone_nano",
    "cpubone_b0_bfrobust",
    # crossvit
    "crossvit_tiny_240",
    "crossvit_15_240",
    # csatv2
    "csatv2",
    "csatv2_21m",
    # cspnet
    "cs3darknet_focus_s",
    "darknet17",
    "cspresnext50",
    "darknet21",
    "sedarknet21",
    "cs3sedarknet_xdw",
    # cspnext
    "cspnext_tiny",
    "cspnext_m",
    # davit
    "davit_tiny",
    # deit
    "deit_tiny_patch16_224",
    "deit3_small_patch16_224",
    # densenet
    "densenet121",
    "densenetblur121d",
    "densenet169",
    "densenet201",
    # dla
    "dla46x_c",
    "dla46_c",
    "dla60x_c",
    "dla34",
    # dpn
    "dpn48b",
    "dpn68",
    "dpn68b",
    "dpn92",
    # edgenext
    "edgenext_xx_small",
    "edgenext_small",
    # efficientformer
    "efficientformer_l1",
    "efficientformer_l3",
    # efficientformer_v2
    "efficientformerv2_s0",
    "efficientformerv2_s2",
    # efficientnet
    "mobilenetv2_035",
    "mnasnet_small",
    "tinynet_e",
    "semnasnet_050",
    "mobilenet_edgetpu_100",
    "mixnet_s",
    # efficientvim
    "efficientvim_m1",
    "efficientvim_m2_dist",
    # efficientvit_mit
    "efficientvit_b0",
    # efficientvit_msra
    "efficientvit_m0",
    "efficientvit_m2",
    # eva
    "vit_tiny_patch16_dinov3_qkvb",
    "eva02_tiny_patch14_224",
    # fasternet
    "fasternet_t0",
    "fasternet_t2",
    # fastvit
    "fastvit_t8",
    "fastvit_sa12",
    # focalnet
    "focalnet_tiny_srf",
    # gcvit
    "gcvit_xxtiny",
    "gcvit_tiny",
    # ghostnet
    "ghostnet_050",
    "ghostnetv3_050",
    # hardcorenas
    "hardcorenas_b",
    "hardcorenas_c",
    # hgnet
    "hgnetv2_b0",
    "hgnet_tiny",
    # hiera
    "hiera_tiny_224",
    "hiera_small_224",
    # hieradet_sam2
    "sam2_hiera_tiny",
    "hieradet_small",
    # hrnet
    "hrnet_w18_small",
    "hrnet_w30",
    # iformer
    "iformer_t",
    "iformer_m_distilled",
    # inception_next
    "inception_next_atto",
    # inception_resnet_v2
    "inception_resnet_v2",
    # inception_v3
    "inception_v3",
    # inception_v4
    "inception_v4",
    # lcnetv2
    "lcnetv2_small",
    "lcnetv2_base",
    # levit
    "levit_128s",
    "levit_256d",
    # lowformer
    "lowformer_b0",
    "lowformer_e2",
    # mambaout
    "mambaout_femto",
    # maxxvit
    "maxvit_pico_rw_256",
    "coatnet_pico_rw_224",
    # metaformer
    "poolformerv2_s12",
    "poolformer_s12",
    # mlp_mixer
    "gmlp_ti16_224",
    "gmixer_12_224",
    # mobilenetv3
    "mobilenetv3_small_050",
    "lcnet_035",
    # mobilenetv5
    "mobilenetv5_base",
    # mobilevit
    "mobilevit_xxs",
    "mobilevitv2_050",
    # mvitv2
    "mvitv2_tiny",
    "mvitv2_small_cls",
    # naflexvit
    "naflexvit_base_patch16_parfac_gap",
    # nasnet
    "nasnetalarge",
    # nest
    "nest_tiny",
    "nest_small_jx",
    # nextvit
    "nextvit_small",
    "nextvit_base",
    # nfnet
    "nf_regnet_b0",
    "eca_nfnet_l0",
    # pit
    "pit_ti_224",
    "pit_xs_distilled_224",
    # pnasnet
    "pnasnet5large",
    # pvt_v2
    "pvt_v2_b0",
    "pvt_v2_b2",
    # qwen3_vit
    "qwen3_vit_88m",
    # rdnet
    "rdnet_tiny",
    # regnet
    "regnetx_002",
    "regnety_002",
    # repghost
    "repghostnet_050",
    "repghostnet_100",
    # repvit
    "repvit_m1",
    "repvit_m2",
    # res2net
    "res2next50",
    "res2net50_14w_8s",
    # resnest
    "resnest14d",
    "resnest26d",
    "resnest50d_1s4x24d",
    # resnet
    "resnet10t",
    "resnet14t",
    "resnet18",
    "resnetblur18",
    "resnet18d",
    "seresnet18",
    # resnetv2
    "resnetv2_18",
    "resnetv2_50d",
    # rexnet
    "rexnet_100",
    "rexnetr_100",
    # selecsls
    "selecsls42",
    "selecsls60",
    # senet
    "legacy_seresnet18",
    "legacy_seresnext26_32x4d",
    "legacy_seresnet34",
    "legacy_seresnext50_32x4d",
    # sequencer
    "sequencer2d_s",
    "sequencer2d_m",
    # shvit
    "shvit_s1",
    "shvit_s3",
    # sknet
    "skresnet18",
    "skresnet34",
    # starnet
    "starnet_s050",
    "starnet_s1",
    # swiftformer
    "swiftformer_xs",
    "swiftformer_l1",
    # swin_transformer
    "swin_tiny_patch4_window7_224",
    # swin_transformer_v2
    "swinv2_tiny_window16_256",
    # swin_transformer_v2_cr
    "swinv2_cr_tiny_224",
    # tiny_vit
    "tiny_vit_5m_224",
    "tiny_vit_21m_384",
    # tnt
    "tnt_s_legacy_patch16_224",
    "tnt_s_patch16_224",
    # tresnet
    "tresnet_m",
    # twins
    "twins_svt_small",
    "twins_pcpvt_base",
    # visformer
    "visformer_tiny",
    "visformer_small",
    # vision_transformer
    "vit_tiny_patch16_224",
    "flexivit_small",
    # vision_transformer_hybrid
    "vit_tiny_r_s16_p8_224",
    # vision_transformer_relpos
    "vit_srelpos_small_patch16_224",
    "vit_relpos_medium_patch16_224",
    # vision_transformer_sam
    "samvit_base_patch16_224",
    # vitamin
    "vitamin_small_224",
    # volo
    "volo_d1_224",
    # vovnet
    "ese_vovnet19b_slim_dw",
    "vovnet39a",
    # xception
    "legacy_xception",
    # xception_aligned
    "xception41p",
    "xception41",
    # xcit
    "xcit_nano_12_p8_224",
    "xcit_tiny_24_p8_384",
)
